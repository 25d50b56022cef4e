import Type, { type Static } from 'typebox';

/** The answer to what is idempotent: true also when nothing changed. */
export const successSchema = Type.Object({ success: Type.Literal(true) }, { title: 'Success', description: 'Also where nothing changed.' });
export type Success = Static<typeof successSchema>;
export const success: Success = { success: true };
