import { Controller, Get, Res } from '@nestjs/common';
import type { FastifyReply } from 'fastify';
import { Feed } from '../bus/feed.js';
import { RealtimeGateway } from '../realtime/realtime.gateway.js';

interface Health {
  status: 'ok' | 'unavailable';
  reasons: string[];
}

/** What a load balancer asks. Takes nothing from the database: it says what the node's own heartbeats know. */
@Controller('health')
export class HealthController {
  constructor(
    private readonly feed: Feed,
    private readonly gateway: RealtimeGateway,
  ) {}

  /** 200 when the node serves, else 503 with the reasons; the same as /health/ready. */
  @Get()
  health(@Res({ passthrough: true }) reply: FastifyReply): Health {
    return this.ready(reply);
  }

  /** 200 while the process runs its event loop: a node whose database is away need not be restarted. */
  @Get('live')
  live(): Health {
    return { status: 'ok', reasons: [] };
  }

  @Get('ready')
  ready(@Res({ passthrough: true }) reply: FastifyReply): Health {
    const reasons = [this.feed.problem, this.gateway.isDraining ? 'this node is going away' : undefined].filter(
      (reason) => reason !== undefined,
    );
    if (reasons.length > 0) reply.status(503);
    return { status: reasons.length === 0 ? 'ok' : 'unavailable', reasons };
  }
}
