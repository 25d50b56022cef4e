/**
 * Input of REST, checked before a controller sees it. Each rule here gives a phrase that follows the field's name ('must be a UUID'), says in
 * the document what it checks, and accepts nothing that PostgreSQL would refuse later: NUL, lone surrogates, numbers beyond an integer's exactness.
 */
import { applyDecorators, ValidationPipe, type ArgumentMetadata } from '@nestjs/common';
import { Transform } from 'class-transformer';
import { IsOptional, isEmail, isUUID, ValidateBy, type ValidationError } from 'class-validator';
import { ClientError, type FieldError } from '../protocol/errors.js';
import { emailProblem } from '../protocol/names.js';
import { textProblem } from '../protocol/text.js';
import { Known, type Keywords } from './fields.js';

/** Enough to mend a form; a body of thousands of unknown fields must not make an answer of the same size. */
const fieldErrorsMax = 20;
const fieldNameMaxCharacters = 64;
const valuesMax = 100;
const levelsMax = 8;

/** A rule of ours for class-validator: `problem` returns the phrase, or undefined for a good value; `keywords` say the same in JSON Schema. */
const rule = (name: string, keywords: Keywords, problem: (value: unknown) => string | undefined): PropertyDecorator =>
  applyDecorators(
    ValidateBy({
      name,
      validator: { validate: (value) => problem(value) === undefined, defaultMessage: (context) => problem(context?.value) ?? '' },
    }),
    Known(keywords),
  );

/** What a field means, for the document; `default` is what the route takes where it is left out. */
export const Means = (description: string, more: { default?: unknown; example?: unknown } = {}): PropertyDecorator => {
  const { example, ...keywords } = more;
  return Known({ description, ...keywords, ...(example !== undefined && { examples: [example] }) });
};

/** May be left out, or be null, which is the same. */
export const Optional = (): PropertyDecorator => applyDecorators(IsOptional(), Known({}, { isOptional: true }));

/** Text of so many Unicode code points. A rule of its own says why a text is refused; `pattern` is what a schema can tell of it. */
export const Text = (
  min: number,
  max: number,
  own?: { pattern: RegExp; problem: (text: string) => string | undefined },
): PropertyDecorator =>
  rule(
    'text',
    { type: 'string', minLength: min, maxLength: max, ...(own && { pattern: own.pattern.source }) },
    (value) => textProblem(value, min, max) ?? own?.problem(String(value)),
  );

/** Hosts without a dot are accepted: they are fine on an intranet and in tests. */
export const EmailAddress = (maxCharacters: number): PropertyDecorator =>
  rule('emailAddress', { type: 'string', format: 'email', maxLength: maxCharacters }, (value) => {
    const problem = textProblem(value, 1, maxCharacters);
    if (problem !== undefined) return problem; // isEmail throws on a lone surrogate
    return isEmail(value, { require_tld: false }) ? emailProblem(String(value)) : 'must be an email address';
  });

/** A UUID of any version; comes out in lower case. */
export const Uuid = (): PropertyDecorator =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.toLowerCase() : value)),
    rule('uuid', { type: 'string', format: 'uuid' }, (value) => (isUUID(value, 'loose') ? undefined : 'must be a UUID')),
  );

export const WholeNumber = (min: number, max: number): PropertyDecorator =>
  rule('wholeNumber', { type: 'integer', minimum: min, maximum: max }, (value) => wholeNumberProblem(value, min, max));

/** A whole number in a query string; comes out as a number, and as undefined where the parameter is there without a value. */
export const QueryWholeNumber = (min: number, max: number): PropertyDecorator =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? numberFrom(value) : value)),
    rule(
      'queryWholeNumber',
      // A union with the empty string would leave generated clients without a way to set a number.
      { type: 'integer', minimum: min, maximum: max, allowEmptyValue: true },
      (value) => wholeNumberProblem(value, min, max),
    ),
  );

/** One of a few words. */
export const OneOf = (words: readonly string[]): PropertyDecorator =>
  rule('oneOf', { type: 'string', enum: words }, (value) =>
    words.some((word) => word === value) ? undefined : `must be one of ${words.join(', ')}`,
  );

export const TrueOrFalse = (): PropertyDecorator =>
  rule('trueOrFalse', { type: 'boolean' }, (value) => (typeof value === 'boolean' ? undefined : 'must be true or false'));

/** A string that is judged later, by a rule that sockets have too, and which answers a long one with a code of its own. */
export const JudgedText = (min: number, max: number): PropertyDecorator =>
  rule('judgedText', { type: 'string', minLength: min, maxLength: max }, (value) =>
    typeof value === 'string' ? undefined : 'must be a string',
  );

const wholeNumberProblem = (value: unknown, min: number, max: number): string | undefined =>
  Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max ? undefined : `must be a whole number from ${min} to ${max}`;

function numberFrom(text: string): number | undefined {
  if (text === '') return undefined;
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

/** The pipe of every REST route: unknown fields are refused, all bad fields are named at once. */
export class RestValidationPipe extends ValidationPipe {
  constructor() {
    super({ whitelist: true, forbidNonWhitelisted: true, transform: true, exceptionFactory: invalidPayload });
  }

  override transform(value: unknown, metadata: ArgumentMetadata): Promise<unknown> {
    if (isTooMuch(value))
      throw new ClientError('invalid_payload', `There are more than ${valuesMax} fields, or ${levelsMax} levels of them.`);
    return super.transform(value, metadata);
  }
}

/**
 * What we ask for has a few fields on one level. Validation takes 20 µs a field and walks the levels on the stack: an unbounded body would
 * hold up every socket of the node for half a second, or overflow the stack.
 */
function isTooMuch(value: unknown): boolean {
  let values = [value];
  let count = 0;
  for (let level = 0; level <= levelsMax; level++) {
    values = values.flatMap((outer) => (typeof outer === 'object' && outer !== null ? Object.values(outer) : []));
    if (values.length === 0) return false;
    count += values.length;
    if (count > valuesMax) return true;
  }
  return true;
}

function invalidPayload(errors: readonly ValidationError[]): ClientError {
  const fields = errors.slice(0, fieldErrorsMax).map(fieldError);
  return new ClientError('invalid_payload', fields.map(({ field, message }) => `${field}: ${message}`).join('; '), { fields });
}

function fieldError({ property, value, constraints = {} }: ValidationError): FieldError {
  const field = property.slice(0, fieldNameMaxCharacters).toWellFormed();
  if ('whitelistValidation' in constraints) return { field, message: 'is not a known field' };
  if ('isObject' in constraints) return { field, message: 'must be an object' };
  if (value === undefined) return { field, message: 'is required' };
  return { field, message: Object.values(constraints)[0] ?? 'is not allowed' };
}
