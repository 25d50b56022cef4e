/**
 * What the document says of the fields of a body or query. The rules that check a field write it down here, so that it can't say anything else
 * than they do.
 */
/** Keywords of JSON Schema 2020-12. */
export type Keywords = Readonly<Record<string, unknown>>;
/** A class whose fields have rules. */
export type Dto = abstract new () => object;

export interface Field {
  readonly keywords: Keywords;
  /** May be left out; in a body it may be null too, which is the same. */
  readonly isOptional: boolean;
}

const fieldsByPrototype = new WeakMap<object, Map<string, Field>>();

/** Adds to what is known of the field. */
export const Known =
  (keywords: Keywords, more: { isOptional?: true } = {}): PropertyDecorator =>
  (prototype, property) => {
    const fields = fieldsByPrototype.get(prototype) ?? new Map<string, Field>();
    fieldsByPrototype.set(prototype, fields);
    const name = String(property);
    const known = fields.get(name) ?? { keywords: {}, isOptional: false };
    fields.set(name, { ...known, ...more, keywords: { ...known.keywords, ...keywords } });
  };

/** The fields of a class, inherited ones first. */
export function fieldsOf(dto: Dto): ReadonlyMap<string, Field> {
  const fields = new Map<string, Field>();
  const prototypes: object[] = [];
  for (
    let prototype: unknown = dto.prototype;
    typeof prototype === 'object' && prototype !== null;
    prototype = Object.getPrototypeOf(prototype)
  )
    prototypes.unshift(prototype);
  for (const prototype of prototypes) for (const [name, field] of fieldsByPrototype.get(prototype) ?? []) fields.set(name, field);
  return fields;
}
