import { Controller, Get, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import Type, { type Static } from 'typebox';
import { Feed } from '../bus/feed.js';
import { ChatService } from '../chat/chat.service.js';
import { RealtimeGateway } from '../realtime/realtime.gateway.js';
import { Operation } from '../rest/operation.js';

const healthSchema = Type.Object(
  { status: Type.Enum(['ok', 'unavailable']), reasons: Type.Array(Type.String(), { description: 'why it is unavailable' }) },
  { title: 'Health' },
);
type Health = Static<typeof healthSchema>;

/** What a load balancer asks. Takes nothing from the database: it says what the node's own heartbeats and writes have told. */
@Controller('health')
export class HealthController {
  constructor(
    private readonly feed: Feed,
    private readonly chat: ChatService,
    private readonly gateway: RealtimeGateway,
  ) {}

  /** 200 when the node serves, else 503 with the reasons; the same as /health/ready. */
  @Get()
  @Operation({ summary: 'Tell whether the node serves; the same as /health/ready', answer: healthSchema, alsoWith: [503] })
  health(@Res({ passthrough: true }) reply: FastifyReply): Health {
    return this.ready(reply);
  }

  /** 200 while the process runs its event loop: a node whose database is away need not be restarted. */
  @Get('live')
  @Operation({
    summary: 'Tell whether the process runs',
    description: 'A node whose database is away need not be restarted.',
    answer: healthSchema,
  })
  live(): Health {
    return { status: 'ok', reasons: [] };
  }

  @Get('ready')
  @Operation({ summary: 'Tell whether the node serves', answer: healthSchema, alsoWith: [503] })
  ready(@Res({ passthrough: true }) reply: FastifyReply): Health {
    // Commits that wait hold up the bus too, and are why.
    const problem = this.feed.isDatabaseAway ? this.feed.problem : (this.chat.problem ?? this.feed.problem);
    const reasons = [problem, this.gateway.isDraining ? 'this node is going away' : undefined].filter((reason) => reason !== undefined);
    if (reasons.length > 0) reply.status(503);
    return { status: reasons.length === 0 ? 'ok' : 'unavailable', reasons };
  }
}
