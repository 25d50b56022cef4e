/** What the document says of a route beyond what its decorators, its parameters and their rules say already. */
import type { Static, TSchema } from 'typebox';
import type { ErrorCode } from '../protocol/errors.js';

export interface Description<Schema extends TSchema = TSchema> {
  /** One line. */
  readonly summary: string;
  readonly description?: string;
  /** Of a success. An object with a `title` becomes a schema of its own, by that name. */
  readonly answer: Schema;
  /** Of a success, if it isn't JSON. */
  readonly contentTypes?: readonly string[];
  /** Statuses that have the body of a success, and are none. */
  readonly alsoWith?: readonly number[];
  /** Headers that a success has, each with what it says. */
  readonly headers?: Readonly<Record<string, string>>;
  /** A success may have 1 MiB: few are made for one user at a time. */
  readonly isLarge?: true;
  /** What can go wrong, beside what can with any route of its kind: `unauthenticated` behind the guard, `invalid_payload` with input, … */
  readonly errors?: readonly ErrorCode[];
}

/** What a handler returns: what the schema says, or that as JSON text. */
type Answering<Schema extends TSchema> = (...inputs: never[]) => Static<Schema> | string | Promise<Static<Schema>> | Promise<string>;

const descriptions = new WeakMap<object, Description>();

/** Describes a handler, which has to return what `answer` says. */
export const Operation =
  <Schema extends TSchema>(description: Description<Schema>) =>
  <Handler extends Answering<Schema>>(_prototype: object, _name: string | symbol, { value }: TypedPropertyDescriptor<Handler>): void => {
    if (value !== undefined) descriptions.set(value, description);
  };

export const descriptionOf = (handler: object): Description | undefined => descriptions.get(handler);
