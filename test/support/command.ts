import { execFile } from 'node:child_process';
import { testSecret } from './node.js';

export interface CommandResult {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs one of the built commands to its end, as a production image does: `node dist/NAME.js`. */
export function runCommand(name: string, args: readonly string[], env: Record<string, string> = {}): Promise<CommandResult> {
  return new Promise((done) => {
    execFile(
      process.execPath,
      [`dist/${name}.js`, ...args],
      { env: { PATH: process.env['PATH'] ?? '', JWT_ACCESS_SECRET: testSecret, ...env } },
      (error, stdout, stderr) => done({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
    );
  });
}
