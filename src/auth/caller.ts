import type { FastifyRequest } from 'fastify';
import ipaddr from 'ipaddr.js';
import { deviceNameOf } from './device-name.js';

/** From where and with what somebody asks, as far as it can be known. */
export interface Caller {
  /** IPv4 or IPv6; null where the connection is gone already. */
  address: string | null;
  deviceName: string;
}

/** Fastify takes the address from X-Forwarded-For where one of TRUSTED_PROXIES wrote it; what stands there may still be anything. */
export function callerOf({ ip, socket, headers }: FastifyRequest, deviceName?: string | null): Caller {
  return {
    address: addressFrom(ip) ?? addressFrom(socket.remoteAddress),
    deviceName: deviceName ?? deviceNameOf(headers['user-agent'] ?? ''),
  };
}

/** An IPv4 address that came mapped into IPv6 comes out as IPv4; a port, which some proxies add, and a zone are left away. */
function addressFrom(text = ''): string | null {
  const [, inBrackets, beforePort] = /^\[(.+)\](?::\d+)?$|^([\d.]+):\d+$/.exec(text) ?? [];
  const address = (inBrackets ?? beforePort ?? text).replace(/%.*$/, '');
  return ipaddr.isValid(address) ? ipaddr.process(address).toString() : null;
}

/** Whom an address stands for when attempts are counted: a customer of IPv6 has 2^64 addresses at the least. */
export function networkOf({ address }: Pick<Caller, 'address'>): string {
  if (address === null || !ipaddr.IPv6.isValid(address)) return address ?? '';
  return ipaddr.IPv6.parse(address).parts.slice(0, 4).join(':');
}
