/**
 * Input of REST, checked before a controller sees it. Each rule here gives a phrase that follows the field's name ('must be a UUID'), and
 * accepts nothing that PostgreSQL would refuse later: NUL, lone surrogates, numbers beyond an integer's exactness.
 */
import { applyDecorators, ValidationPipe } from '@nestjs/common';
import { Transform } from 'class-transformer';
import { isUUID, ValidateBy, type ValidationError } from 'class-validator';
import { ClientError, type FieldError } from '../protocol/errors.js';
import { textProblem } from '../protocol/text.js';

/** Enough to mend a form; a body of thousands of unknown fields must not make an answer of the same size. */
const fieldErrorsMax = 20;
const fieldNameMaxCharacters = 64;

/** A rule of ours for class-validator: `problem` returns the phrase, or undefined for a good value. */
const rule = (name: string, problem: (value: unknown) => string | undefined): PropertyDecorator =>
  ValidateBy({
    name,
    validator: { validate: (value) => problem(value) === undefined, defaultMessage: (context) => problem(context?.value) ?? '' },
  });

/** Text of so many Unicode code points; where a pattern is given, text and key both have to match it, and `allowed` says it in words. */
export const Text = (min: number, max: number, pattern?: { expression: RegExp; allowed: string }): PropertyDecorator =>
  rule('text', (value) => {
    const problem = textProblem(value, min, max);
    if (problem !== undefined || pattern === undefined) return problem;
    const text = String(value);
    return pattern.expression.test(text) && pattern.expression.test(text.normalize('NFKC')) ? undefined : pattern.allowed;
  });

/** A UUID of any version; comes out in lower case. */
export const Uuid = (): PropertyDecorator =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.toLowerCase() : value)),
    rule('uuid', (value) => (isUUID(value, 'loose') ? undefined : 'must be a UUID')),
  );

/** A whole number in a query string; comes out as a number, and as undefined where the parameter is there without a value. */
export const WholeNumber = (min: number, max: number): PropertyDecorator =>
  applyDecorators(
    Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? numberFrom(value) : value)),
    rule('wholeNumber', (value) =>
      Number.isSafeInteger(value) && Number(value) >= min && Number(value) <= max ? undefined : `must be a whole number from ${min} to ${max}`,
    ),
  );

/** One of a few words. */
export const OneOf = (words: readonly string[]): PropertyDecorator =>
  rule('oneOf', (value) => (words.some((word) => word === value) ? undefined : `must be one of ${words.join(', ')}`));

function numberFrom(text: string): number | undefined {
  if (text === '') return undefined;
  return /^\d+$/.test(text) ? Number(text) : Number.NaN;
}

/** The pipe of every REST route: unknown fields are refused, all bad fields are named at once. */
export const createValidationPipe = (): ValidationPipe =>
  new ValidationPipe({ whitelist: true, forbidNonWhitelisted: true, transform: true, exceptionFactory: invalidPayload });

function invalidPayload(errors: readonly ValidationError[]): ClientError {
  const fields = errors.slice(0, fieldErrorsMax).map(fieldError);
  return new ClientError('invalid_payload', fields.map(({ field, message }) => `${field}: ${message}`).join('; '), { fields });
}

function fieldError({ property, value, constraints = {} }: ValidationError): FieldError {
  const field = Array.from(property.toWellFormed()).slice(0, fieldNameMaxCharacters).join('');
  if ('whitelistValidation' in constraints) return { field, message: 'is not a known field' };
  if ('isObject' in constraints) return { field, message: 'must be an object' };
  if (value === undefined) return { field, message: 'is required' };
  return { field, message: Object.values(constraints)[0] ?? 'is not allowed' };
}
