/** The Nginx of a cluster on this machine, with nginx/nginx.conf as docker-compose.yml has it; only the nodes and the port are others. */
import { spawn, type ChildProcess } from 'node:child_process';
import { constants } from 'node:fs';
import { access, chmod, mkdtemp, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { UsageError } from '../../src/failure.js';

const ours = fileURLToPath(new URL('../../nginx', import.meta.url));
/** In the PATH, and where it is for root and often not in the PATH of others. */
const places = (): string[] => [
  ...(process.env['PATH'] ?? '').split(delimiter),
  '/usr/sbin',
  '/usr/local/sbin',
  '/usr/local/bin',
  '/opt/homebrew/bin',
];

/** @throws UsageError that says how to install it */
export async function findNginx(folders: readonly string[] = places()): Promise<string> {
  for (const folder of folders) {
    const path = join(folder, 'nginx');
    const isThere = await access(path, constants.X_OK).then(
      () => true,
      () => false,
    );
    if (folder !== '' && isThere) return path;
  }
  throw new UsageError(
    `Nginx is not installed. Install it, and start this again:
  Debian, Ubuntu   sudo apt-get install nginx-light
  Fedora           sudo dnf install nginx
  macOS            brew install nginx`,
  );
}

const asManyFilesAsAllowed = 'ulimit -n "$(ulimit -Hn)" 2>/dev/null; exec "$0" "$@"';

export interface NginxFolder {
  readonly path: string;
  start(): ChildProcess;
}

/** Makes a folder with the configuration, in which Nginx can write whoever it runs as. */
export async function nginxFolder(nginx: string, port: number, nodePorts: readonly number[]): Promise<NginxFolder> {
  const path = await mkdtemp(join(tmpdir(), 'trunkline-nginx-'));
  await chmod(path, 0o755); // started by root, its workers are another account
  for (const file of ['nginx.conf', 'locations.conf']) await symlink(join(ours, file), join(path, file));
  await writeFile(join(path, 'upstreams.conf'), upstreams(nodePorts.map((nodePort) => `127.0.0.1:${nodePort}`)));
  // A load test comes from one address: the limit is that of the workers.
  const server = [
    `listen ${port} backlog=4096`,
    'access_log access.log trunkline',
    'limit_conn per_address 16384',
    'include locations.conf',
  ];
  await writeFile(join(path, 'server.conf'), `server {\n${server.map((line) => `  ${line};\n`).join('')}}\n`);
  return { path, start: () => startNginx(nginx, path) };
}

/** @param path of a folder that has nginx.conf and all that it includes */
export function startNginx(nginx: string, path: string): ChildProcess {
  const args = ['-p', `${path}/`, '-c', join(path, 'nginx.conf'), '-e', 'stderr'];
  return spawn('sh', ['-c', asManyFilesAsAllowed, nginx, ...args], { detached: true, stdio: ['ignore', 'pipe', 'pipe'] });
}

/** As nginx/upstreams.conf, which says why. */
export function upstreams(addresses: readonly string[]): string {
  const lines = [
    'zone nodes 256k',
    'least_conn',
    ...addresses.map((address) => `server ${address} max_fails=1 fail_timeout=5s`),
    ...addresses.map((address) => `server ${address} max_fails=0 backup`),
  ];
  return `upstream nodes {\n${lines.map((line) => `  ${line};\n`).join('')}}\n`;
}
