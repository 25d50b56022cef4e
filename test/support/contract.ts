/** The wire contract, held against what a node really sends: a field that it does not declare is as wrong as one that is missing. */
import { Compile } from 'typebox/compile';
import { pushSchemas } from '../../src/protocol/pushes.js';
import { repliesTo, replySchemas } from '../../src/protocol/replies.js';
import { closed } from './closed-schema.js';

const validators = new Map(Object.entries({ ...replySchemas, ...pushSchemas }).map(([event, schema]) => [event, Compile(closed(schema))]));

/**
 * What is wrong with a frame from a node, in words; empty where it is as the contract says.
 * @param command the event of the command that had the frame's id, where that is known
 */
export function frameProblems(frame: object, command?: string): string[] {
  const { event, data, id, ...others } = frame as { event?: unknown; data?: unknown; id?: unknown };
  const validator = validators.get(String(event));
  if (validator === undefined) return [`there is no event ${String(event)}`];
  const problems = Object.keys(others).map((field) => `${String(event)}: unknown field ${field} beside data`);
  if (id !== undefined && String(event) in pushSchemas) problems.push(`${String(event)}: a push with an id`);
  const replies: readonly string[] = command !== undefined && command in repliesTo ? repliesTo[command as keyof typeof repliesTo] : [];
  if (command !== undefined && event !== 'error' && !replies.includes(String(event)))
    problems.push(`${String(event)}: no answer to ${command}`);
  for (const { instancePath, message } of validator.Check(data) ? [] : validator.Errors(data))
    problems.push(`${String(event)}${instancePath}: ${message}`);
  return problems;
}

const problems: string[] = [];
afterEach(() => {
  const found = [...new Set(problems.splice(0))];
  if (found.length > 0) throw new Error(`a node broke the contract:\n${found.join('\n')}`);
});

/** The test that runs fails where the frame is not as the contract says. */
export function noteFrame(frame: object, command?: string): void {
  problems.push(...frameProblems(frame, command));
}
