import type { IncomingHttpHeaders } from 'node:http';
import { Inject, Injectable } from '@nestjs/common';
import { CONFIG, type Config } from '../config.js';

/**
 * Whose pages may act with the cookies of their reader. A browser sends cookies along with whatever any site makes it ask; the Origin header
 * (Fetch, section 3.2), which no page can forge, says which site it was. For REST and for the socket's handshake.
 */
@Injectable()
export class AllowedOrigins {
  /** As they were set; none where only pages of the request's own host are allowed. */
  readonly listed: ReadonlySet<string>;

  constructor(@Inject(CONFIG) { ALLOWED_ORIGINS }: Config) {
    this.listed = new Set(ALLOWED_ORIGINS === '' ? [] : ALLOWED_ORIGINS.split(',').map((origin) => origin.trim()));
  }

  /** False too where no origin is named: every browser names it where something is changed and where a socket is opened. */
  allows({ headers: { origin, host } }: { readonly headers: IncomingHttpHeaders }): boolean {
    if (origin === undefined || !URL.canParse(origin)) return false;
    return this.listed.size > 0 ? this.listed.has(origin) : new URL(origin).host === host;
  }
}
