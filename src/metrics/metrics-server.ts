import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import { Inject, Injectable, type OnApplicationBootstrap, type OnApplicationShutdown } from '@nestjs/common';
import { CONFIG, type Config } from '../config.js';
import { UntakenAnswers } from '../rest/untaken-answers.js';
import { Metrics } from './metrics.js';

/** Of scrapes that wait to be taken, some 50 KB each. */
const untakenMaxBytes = 4_194_304;
const scrapeExpectedBytes = untakenMaxBytes / 8;
const holder = 'scrapes';

/** A listener of its own for Prometheus, so that what shows the API to the outside does not show this. Serves until the end of a drain. */
@Injectable()
export class MetricsServer implements OnApplicationBootstrap, OnApplicationShutdown {
  private readonly server: Server;

  constructor(
    private readonly metrics: Metrics,
    @Inject(CONFIG) private readonly config: Config,
  ) {
    const stalledMs = config.SLOW_SOCKET_TIMEOUT_MS;
    const untaken = new UntakenAnswers({ maxBytes: untakenMaxBytes, shareMaxBytes: untakenMaxBytes, stalledMs });
    this.server = createServer((request, response) => {
      untaken.watch(request, response);
      if (request.url?.split('?')[0] !== '/metrics') return response.writeHead(404).end();
      if (request.method !== 'GET') return response.writeHead(405, { allow: 'GET' }).end();
      if (!untaken.admit(response, holder, 0, scrapeExpectedBytes)) return response.writeHead(503, { 'retry-after': '1' }).end();
      this.metrics.text().then(
        (text) => {
          const fits = untaken.made(response, Buffer.byteLength(text), { holder, isRefusable: true });
          if (!fits) return response.writeHead(503, { 'retry-after': '1' }).end();
          return response.writeHead(200, { 'content-type': this.metrics.contentType }).end(text);
        },
        () => response.writeHead(500).end(),
      );
      return undefined;
    });
    this.server.maxConnections = 32;
  }

  /** @throws Error where the port is taken */
  async onApplicationBootstrap(): Promise<void> {
    this.server.listen(this.config.METRICS_PORT, this.config.HOST);
    await once(this.server, 'listening');
  }

  async onApplicationShutdown(): Promise<void> {
    if (!this.server.listening) return;
    const closed = once(this.server, 'close');
    this.server.close();
    this.server.closeAllConnections();
    await closed;
  }
}
