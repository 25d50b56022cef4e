/**
 * Traces by OpenTelemetry: a span for each REST request, and one for each batch of the message writer, with links to the requests whose
 * messages are in it. What came by a socket has no span of its own.
 *
 * Nothing here or of OpenTelemetry is loaded unless main.ts finds the address of a collector in the settings, and no other part knows of it.
 * Spans wait in a bounded queue, and what has no room in it is dropped: a collector that is slow or gone costs traces, never a request. A span
 * says which route, how much and how it went; never what a client wrote, nor an address, which may have an invite code in it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import { setTimeout as delay } from 'node:timers/promises';
import { ROOT_CONTEXT, SpanKind, SpanStatusCode, defaultTextMapGetter, type Span, type SpanContext, type Tracer } from '@opentelemetry/api';
import { ExportResultCode, W3CTraceContextPropagator, type ExportResult } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { resourceFromAttributes } from '@opentelemetry/resources';
import { BasicTracerProvider, BatchSpanProcessor, type ReadableSpan, type SpanExporter } from '@opentelemetry/sdk-trace-base';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import type { Logger } from 'pino';
import type { SendTracer } from '../chat/chat.service.js';
import { laneOf, type NewMessage, type Outcome } from '../chat/message.store.js';
import type { Config } from '../config.js';
import { classify } from '../database/sql-error.js';
import { nodeName } from '../logger.js';

/** What is left of the spans may take so long to get away when the node stops. */
const flushDeadlineMs = 1_000;
/** As many as a batch has messages; the usual limit is 128. */
const linksMax = 500;

export class Tracing implements SendTracer {
  private readonly current = new AsyncLocalStorage<Span>();
  private readonly senders = new WeakMap<NewMessage, SpanContext>();
  private readonly propagator = new W3CTraceContextPropagator();
  private readonly exporter: WatchedExporter;
  private readonly provider: BasicTracerProvider;
  private readonly tracer: Tracer;

  constructor(private readonly config: Config) {
    const base = config.OTEL_EXPORTER_OTLP_ENDPOINT.replace(/\/*$/, '/');
    this.exporter = new WatchedExporter(new OTLPTraceExporter({ url: new URL('v1/traces', base).href }));
    this.provider = new BasicTracerProvider({
      resource: resourceFromAttributes({ 'service.name': config.OTEL_SERVICE_NAME, 'service.instance.id': nodeName(config) }),
      spanLimits: { linkCountLimit: linksMax },
      spanProcessors: [new BatchSpanProcessor(this.exporter)],
    });
    this.tracer = this.provider.getTracer('trunkline');
  }

  /** What each line of the log gets that is written on behalf of a request. */
  readonly logFields = (): object => {
    const span = this.current.getStore();
    if (span === undefined) return {};
    const { traceId, spanId } = span.spanContext();
    return { trace_id: traceId, span_id: spanId };
  };

  /** Says in the log when the collector takes no spans, and when it does again. */
  logTo(log: Logger): void {
    // A batch of spans leaves in the context of whichever request came last.
    this.exporter.onChange = (error) =>
      this.current.exit(() =>
        error === undefined ? log.info('traces are exported again') : log.warn({ err: error }, 'traces are not exported, and are dropped'),
      );
  }

  /** Follows every request from here on. To be called before other hooks are added, which then run within its span. */
  watchRequests(fastify: FastifyInstance): void {
    fastify.addHook('onRequest', (request, reply, done) => this.current.run(this.startRequest(request, reply), done));
  }

  private startRequest(request: FastifyRequest, reply: FastifyReply): Span {
    const { id, method, headers, routeOptions } = request;
    const route = routeOptions.url;
    const parent = this.propagator.extract(ROOT_CONTEXT, headers, defaultTextMapGetter);
    const attributes = {
      'http.request.method': method,
      ...(route !== undefined && { 'http.route': route }),
      'trunkline.request_id': id,
    };
    const name = route === undefined ? method : `${method} ${route}`;
    const span = this.tracer.startSpan(name, { kind: SpanKind.SERVER, attributes }, parent);
    reply.raw.once('close', () => {
      const { statusCode, writableFinished } = reply.raw;
      if (writableFinished) span.setAttribute('http.response.status_code', statusCode);
      if (!writableFinished || statusCode >= 500) {
        span.setAttribute('error.type', writableFinished ? String(statusCode) : 'client_gone');
        span.setStatus({ code: SpanStatusCode.ERROR });
      }
      span.end();
    });
    return span;
  }

  sending(send: NewMessage, accept: () => void): void {
    const span = this.current.getStore();
    if (span === undefined) return accept();
    if (span.isRecording()) this.senders.set(send, span.spanContext());
    return this.current.exit(accept);
  }

  async storing(batch: readonly NewMessage[], store: () => Promise<Outcome[]>): Promise<Outcome[]> {
    const attributes = {
      'db.system.name': 'postgresql',
      'trunkline.batch.messages': batch.length,
      'trunkline.batch.bytes': batch.reduce((sum, { content }) => sum + Buffer.byteLength(content), 0),
      'trunkline.batch.lane': laneOf(batch[0]?.roomId ?? '', this.config.WRITER_LANES),
    };
    const senders = batch.flatMap((message) => this.senders.get(message) ?? []);
    const links = senders.map((context) => ({ context }));
    const span = this.tracer.startSpan('store batch', { kind: SpanKind.CLIENT, attributes, links }, ROOT_CONTEXT);
    try {
      const outcomes = await store();
      const stored = outcomes.filter(({ status }) => status === 'stored').length;
      span.setAttributes({ 'trunkline.batch.outcome': 'committed', 'trunkline.batch.stored': stored });
      return outcomes;
    } catch (error) {
      const outcome = classify(error);
      span.setAttributes({ 'trunkline.batch.outcome': outcome, 'error.type': outcome });
      span.setStatus({ code: SpanStatusCode.ERROR });
      throw error;
    } finally {
      span.end();
    }
  }

  /** Sends what waits, and resolves within `flushDeadlineMs` whether that could be done or not. */
  async close(): Promise<void> {
    const flushed = this.provider.shutdown().catch(() => undefined); // the exporter has told
    await Promise.race([flushed, delay(flushDeadlineMs, undefined, { ref: false })]);
  }
}

/** Tells of the first export that fails, and of the first that works again. */
class WatchedExporter implements SpanExporter {
  onChange: (error: Error | undefined) => void = () => undefined;
  private isFailing = false;

  constructor(private readonly exporter: SpanExporter) {}

  export(spans: ReadableSpan[], done: (result: ExportResult) => void): void {
    this.exporter.export(spans, (result) => {
      const isFailing = result.code === ExportResultCode.FAILED;
      if (isFailing !== this.isFailing) this.onChange(isFailing ? (result.error ?? new Error('unknown reason')) : undefined);
      this.isFailing = isFailing;
      done(result);
    });
  }

  shutdown(): Promise<void> {
    return this.exporter.shutdown();
  }
}
