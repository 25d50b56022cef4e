/** The load generator is a program of its own, which npm does not bring. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { Unusable } from './unusable.js';

/** The first one whose module k6/websockets is stable. */
const versionMin = [1, 6];
const howToGetIt = `  go install go.k6.io/k6@v1.8.1 && export PATH="$PATH:$(go env GOPATH)/bin"
or copy /usr/bin/k6 out of the image grafana/k6.`;

/** @throws Unusable when there is no k6 in PATH, or one that is too old */
export async function expectK6(): Promise<void> {
  const { stdout } = await promisify(execFile)('k6', ['version']).catch(() => {
    throw new Unusable(`k6 is not in PATH. Get it with\n${howToGetIt}`);
  });
  const [major = 0, minor = 0] = (/v(\d+)\.(\d+)/.exec(stdout) ?? []).slice(1).map(Number);
  const [majorMin = 0, minorMin = 0] = versionMin;
  if (major < majorMin || (major === majorMin && minor < minorMin))
    throw new Unusable(`This needs k6 ${versionMin.join('.')} or later, and ${stdout.trim()} is in PATH. Get it with\n${howToGetIt}`);
}
