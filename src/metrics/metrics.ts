/**
 * What the node shows to Prometheus.
 *
 * The parts of a node count in plain numbers of their own and know nothing of this; they are read when a scrape asks. Only what needs a
 * distribution is observed as it happens, and that once a batch, a flush or a REST request, never once a message or a frame. Every label has
 * few values, which are ours: error codes, route templates, lanes; never what a client wrote.
 */
import { readdir } from 'node:fs/promises';
import { Inject, Injectable } from '@nestjs/common';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { Counter, Gauge, Histogram, Registry, collectDefaultMetrics } from 'prom-client';
import { Feed } from '../bus/feed.js';
import { ChatService } from '../chat/chat.service.js';
import { CONFIG, type Config } from '../config.js';
import { Database } from '../database/database.js';
import { PresenceService } from '../presence/presence.service.js';
import { closeCodes } from '../protocol/close-codes.js';
import { errorCodes, type ErrorCode } from '../protocol/errors.js';
import { Hub } from '../realtime/hub.js';
import { RealtimeGateway } from '../realtime/realtime.gateway.js';
import { UntakenAnswers } from '../rest/untaken-answers.js';

/** Of the process, however many nodes a test runs in it: CPU, memory, event loop, garbage collection. */
let ofProcess: Registry | undefined;
/** Of prom-client's own, those that look at each socket, twice or by a system call that all wait for: 15 ms of the event loop with 5,000. */
const slowWithSockets = ['process_open_fds', 'nodejs_active_handles', 'nodejs_active_handles_total', 'nodejs_active_resources_total'];

/** Values of one label. */
type ByLabel = Readonly<Record<string, number>>;

const refusals = ['room_not_found', 'not_a_member', 'conflict', 'overloaded', 'unavailable', 'internal'] as const satisfies ErrorCode[];

@Injectable()
export class Metrics {
  readonly contentType = Registry.PROMETHEUS_CONTENT_TYPE;
  private readonly registry = new Registry();
  private readonly requests: Counter<'method' | 'route' | 'status'>;
  private readonly requestSeconds: Histogram<'method' | 'route'>;

  constructor(
    @Inject(CONFIG) config: Config,
    db: Database,
    feed: Feed,
    chat: ChatService,
    hub: Hub,
    gateway: RealtimeGateway,
    presence: PresenceService,
    { counters: untaken }: UntakenAnswers,
  ) {
    this.readNode(feed, chat, gateway);
    this.readSockets(gateway, hub);
    this.readSends(chat, config);
    this.readBus(feed);
    this.readPools(db);
    this.readPresence(presence);
    this.observeCircle(chat, hub);
    this.gauge('trunkline_rest_untaken_bytes', 'Bytes of answers of REST that wait for clients to take them.', () => untaken.bytes);
    this.counter('trunkline_rest_refused_answers_total', 'Requests refused since untaken answers filled a bound.', () => untaken.refused);
    this.counter('trunkline_rest_cut_connections_total', 'Connections of REST cut since they did not take answers.', () => untaken.cut);
    this.requests = new Counter({
      name: 'trunkline_http_requests_total',
      help: 'REST requests that were answered, by route template; what is at no route has the route "none".',
      labelNames: ['method', 'route', 'status'],
      registers: [this.registry],
    });
    this.requestSeconds = this.histogram(
      'trunkline_http_request_duration_seconds',
      'From the head of a REST request to the end of its answer.',
      [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5],
      ['method', 'route'],
    );
  }

  /** The answer to a scrape, in the text format of Prometheus. */
  async text(): Promise<string> {
    ofProcess ??= metricsOfProcess();
    return `${await ofProcess.metrics()}\n${await this.registry.metrics()}`;
  }

  readonly observeRequest = ({ method, routeOptions }: FastifyRequest, reply: FastifyReply): void => {
    // A client may send any method that Node knows, to no route.
    const place = routeOptions.url === undefined ? { method: 'any', route: 'none' } : { method, route: routeOptions.url };
    this.requests.inc({ ...place, status: reply.statusCode });
    this.requestSeconds.observe(place, reply.elapsedTime / 1_000);
  };

  private readNode(feed: Feed, chat: ChatService, gateway: RealtimeGateway): void {
    const isReady = () => Number((feed.problem ?? chat.problem) === undefined && !gateway.isDraining);
    this.gauge('trunkline_ready', '1 while the node serves, as /health/ready says; else 0.', isReady);
    this.gauge('trunkline_draining', '1 while the node sends its sockets elsewhere, to end; else 0.', () => Number(gateway.isDraining));
  }

  private readSockets(gateway: RealtimeGateway, { faults }: Hub): void {
    const { counters } = gateway;
    this.gauge('trunkline_connections', 'WebSockets that are open.', () => gateway.connectionCount);
    this.gauge('trunkline_lagging_connections', 'WebSockets that do not take what waits for them.', () => gateway.laggingCount);
    this.gauge('trunkline_unsent_bytes', 'Bytes that wait for WebSockets to take them.', () => gateway.unsentBytes);
    this.counterBy('kind', 'trunkline_stream_faults_total', "Times that a room's next seq was not the one after the last: a bug.", () => ({
      gap: faults.gaps,
      repeat: faults.repeats,
    }));
    this.counter('trunkline_frames_received_total', 'Data frames from clients.', () => counters.framesIn);
    this.counter('trunkline_received_bytes_total', 'Payloads of data frames from clients.', () => counters.bytesIn);
    this.counter('trunkline_frames_sent_total', 'Data frames that were written to sockets.', () => counters.framesOut);
    this.counter('trunkline_sent_bytes_total', 'Data frames that were written to sockets, with their headers.', () => counters.bytesOut);
    this.counterBy('code', 'trunkline_socket_errors_total', 'Frames of event error, by code.', () => ({
      ...none(Object.keys(errorCodes)),
      ...counters.errors,
    }));
    this.counterBy('reason', 'trunkline_closed_connections_total', 'WebSockets closed by this node, by why.', () => ({
      ...none(Object.keys(closeCodes)),
      ...counters.closed,
    }));
  }

  private readSends(chat: ChatService, { WRITER_QUEUE_MESSAGES }: Config): void {
    const { counters } = chat;
    const accepted = () => ({ stored: counters.stored, duplicate: counters.duplicate });
    this.counterBy('result', 'trunkline_sends_accepted_total', 'Sends that were answered with a seq: stored, or found stored.', accepted);
    this.counterBy('code', 'trunkline_sends_refused_total', 'Sends that were answered with an error, by code.', () => ({
      ...none(refusals),
      ...counters.refused,
    }));
    this.counter('trunkline_batches_failed_total', 'Statements of the message writer that failed.', () => counters.failedBatches);
    this.counterBy(
      'end',
      'trunkline_sends_in_doubt_total',
      'Sends of which one try had no answer, by what became of them: stored by a later try, found stored, refused, or unknown to their sender.',
      () => ({ ...counters.inDoubt }),
    );
    const waiting = () => Object.fromEntries(chat.queued.entries());
    this.gaugeBy('lane', 'trunkline_writer_queue_messages', 'Messages that wait for a batch of their lane.', waiting);
    this.gauge('trunkline_writer_queue_limit_messages', 'WRITER_QUEUE_MESSAGES: above it sends are refused.', () => WRITER_QUEUE_MESSAGES);
  }

  private readBus(feed: Feed): void {
    const { counters } = feed;
    this.gauge('trunkline_bus_connected', '1 while LISTEN is in force and proven by a heartbeat; else 0.', () =>
      Number(feed.bus.isConnected),
    );
    this.gauge(
      'trunkline_bus_heartbeat_seconds',
      'Round trip through NOTIFY of the last heartbeat that came back; 0 before the first.',
      () => feed.bus.heartbeatMs / 1_000,
    );
    this.gauge('trunkline_notify_queue_usage_ratio', "Share of PostgreSQL's notification queue that is in use.", () => feed.queueUsage);
    this.counter('trunkline_bus_payloads_total', 'Notifications that were received.', () => counters.payloads);
    this.counter('trunkline_bus_refused_payloads_total', 'Notifications dropped as not ours.', () => counters.refusedPayloads);
    this.counter('trunkline_bus_losses_total', 'Times that LISTEN was lost or could not be had.', () => counters.reconnects);
    this.counter('trunkline_feed_repairs_total', 'Reads for what notifications did not bring to a room.', () => counters.repairs);
    this.counter('trunkline_log_holes_total', 'Reads that found seqs of a room missing from the table.', () => counters.holes);
    this.gauge('trunkline_followed_rooms', 'Rooms with a socket on this node.', () => feed.roomCount);
  }

  private readPools(db: Database): void {
    const each = (read: (pool: (typeof db.pools)['api']) => number) => () =>
      Object.fromEntries(Object.entries(db.pools).map(([name, pool]) => [name, read(pool)]));
    const gauge = (name: string, help: string, read: Parameters<typeof each>[0]) => this.gaugeBy('pool', name, help, each(read));
    gauge('trunkline_db_pool_open_connections', 'Connections to PostgreSQL, by pool.', ({ open }) => open);
    gauge('trunkline_db_pool_busy_connections', 'Connections that are in use.', ({ open, idle }) => open - idle);
    gauge('trunkline_db_pool_limit_connections', 'Connections that a pool may have.', ({ max }) => max);
    gauge('trunkline_db_pool_waiters', 'Statements that wait for a connection.', ({ waiters }) => waiters);
  }

  private readPresence(presence: PresenceService): void {
    const { counters } = presence;
    this.counter('trunkline_signal_statements_total', 'Statements for presence and typing.', () => counters.statements);
    const changes = () => ({ presence: counters.presence, typing: counters.typing });
    this.counterBy('kind', 'trunkline_signals_total', 'Changes of presence and typing that were sent.', changes);
    this.counter('trunkline_typing_dropped_total', 'Changes of typing that gave way to messages.', () => counters.typingDropped);
  }

  private observeCircle(chat: ChatService, hub: Hub): void {
    const seconds = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10];
    const size = this.histogram('trunkline_batch_messages', 'Messages of a batch.', [1, 2, 5, 10, 20, 50, 100, 200, 500]);
    const duration = this.histogram('trunkline_batch_duration_seconds', 'A batch in PostgreSQL: statement, commit and answer.', seconds);
    const commit = this.histogram(
      'trunkline_commit_latency_seconds',
      'From the acceptance of a send to the answer of its commit, of the send of each batch that waited longest.',
      seconds,
    );
    const fanOut = this.histogram(
      'trunkline_fan_out_latency_seconds',
      'From the answer of a commit to the frame for the sockets of its room on the same node, of one message a batch; 0 where the frame was first.',
      seconds,
    );
    chat.attachObserver(({ messages, roundTripMs, longestMs, sample }) => {
      size.observe(messages);
      duration.observe(roundTripMs / 1_000);
      commit.observe(longestMs / 1_000);
      if (sample !== undefined) hub.measureFrom(sample.roomId, sample.seq);
    });
    hub.attachObserver((ms) => fanOut.observe(ms / 1_000));
  }

  private histogram<Label extends string>(name: string, help: string, buckets: number[], labelNames: Label[] = []): Histogram<Label> {
    return new Histogram({ name, help, buckets, labelNames, registers: [this.registry] });
  }

  private gauge(name: string, help: string, read: () => number): void {
    void new Gauge({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.set(read());
      },
    });
  }

  private gaugeBy(label: string, name: string, help: string, read: () => ByLabel): void {
    void new Gauge({
      name,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        for (const [value, number] of Object.entries(read())) this.set({ [label]: value }, number);
      },
    });
  }

  private counter(name: string, help: string, read: () => number): void {
    void new Counter({
      name,
      help,
      registers: [this.registry],
      collect() {
        this.reset();
        this.inc(read());
      },
    });
  }

  private counterBy(label: string, name: string, help: string, read: () => ByLabel): void {
    void new Counter({
      name,
      help,
      labelNames: [label],
      registers: [this.registry],
      collect() {
        this.reset();
        for (const [value, number] of Object.entries(read())) this.inc({ [label]: value }, number);
      },
    });
  }
}

/** Each at zero, so that the first increase is seen as one. */
const none = (values: readonly string[]): ByLabel => Object.fromEntries(values.map((value) => [value, 0]));

function metricsOfProcess(): Registry {
  const register = new Registry();
  collectDefaultMetrics({ register });
  for (const name of slowWithSockets) register.removeSingleMetric(name);
  if (process.platform === 'linux') {
    const openFiles = new Gauge({
      name: 'process_open_fds',
      help: 'Number of open file descriptors.',
      registers: [],
      async collect() {
        // Where none is left to read them by, the count before stands.
        const names = await readdir('/proc/self/fd').catch(() => undefined);
        if (names !== undefined) this.set(names.length - 1); // but for the one that reads them
      },
    });
    register.registerMetric(openFiles);
  }
  return register;
}
