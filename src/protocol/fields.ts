/** Fields that several frames have, as a node sends them. */
import Type, { type Static, type TSchema } from 'typebox';

export const uuid = (description: string) => Type.String({ format: 'uuid', description });
export const time = (description: string) => Type.String({ format: 'date-time', description: `${description}; ISO 8601 in UTC` });
export const count = (description: string) => Type.Integer({ minimum: 0, description });

export const roomId = uuid('id of the room');
export const userId = uuid('id of the user');
export const username = Type.String({ description: 'name of the user at that time' });
export const epoch = Type.String({
  description: 'names the log; another one means that the database may have lost commits. Give it back in join_room',
});
/** Of a message or an event; a room without any has the last seq 0. */
export const seq = Type.Integer({
  minimum: 1,
  maximum: Number.MAX_SAFE_INTEGER,
  description: 'place in the log of the room, which messages and events share: 1, 2, 3, … without a hole',
});
export const lastSeq = (description: string) => Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER, description });

/** The type of what matches a schema. What is sent is not changed any more. */
export type Sent<Schema extends TSchema> = DeepReadonly<Static<Schema>>;
type DeepReadonly<T> = T extends readonly (infer Item)[]
  ? readonly DeepReadonly<Item>[]
  : T extends object
    ? { readonly [Key in keyof T]: DeepReadonly<T[Key]> }
    : T;
