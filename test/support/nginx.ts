import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { findNginx } from '../../scripts/cluster/nginx.js';
import { freePort } from '../../scripts/cluster/node-process.js';
import { eventually } from './eventually.js';

export interface TestNginx {
  readonly url: string;
  stop(): Promise<void>;
}

/**
 * A real Nginx with one server block of the test's.
 * @param server the directives of the block, without `listen`
 */
export async function startNginx(server: string): Promise<TestNginx> {
  const folder = await mkdtemp(join(tmpdir(), 'trunkline-nginx-'));
  await chmod(folder, 0o755);
  const port = await freePort();
  await writeFile(
    join(folder, 'nginx.conf'),
    `daemon off; pid nginx.pid; worker_processes 1; error_log stderr;
     events { worker_connections 256; }
     http { access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path f; uwsgi_temp_path u; scgi_temp_path s;
       server { listen 127.0.0.1:${port};\n${server}\n} }\n`,
  );
  const child = spawn(await findNginx(), ['-p', `${folder}/`, '-c', join(folder, 'nginx.conf'), '-e', 'stderr'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (chunk: Buffer) => (said += chunk.toString()));
  const ended = once(child, 'close');
  await eventually(async () => {
    if (said !== '' || child.exitCode !== null) throw new Error(`Nginx did not start: ${said}`);
    const probe = connect(port, '127.0.0.1');
    return new Promise<boolean>((done) => probe.on('connect', () => done(true)).on('error', () => done(false))).finally(() =>
      probe.destroy(),
    );
  }, 'Nginx to listen');
  return {
    url: `http://127.0.0.1:${port}`,
    async stop() {
      child.kill('SIGTERM');
      await ended;
      await rm(folder, { recursive: true, force: true });
    },
  };
}
