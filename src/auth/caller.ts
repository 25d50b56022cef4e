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

/** Whom an address stands for when attempts are counted. */
export interface Networks {
  /** An IPv4 address, or the 64 bits that a device of IPv6 has for itself at the least. */
  readonly network: string;
  /** What one customer may have of those, the wider one last: of IPv6 56 and 48 bits, of IPv4 24. */
  readonly sites: readonly string[];
}

export function networksOf({ address }: Pick<Caller, 'address'>): Networks {
  if (address === null || !ipaddr.isValid(address)) return { network: address ?? '', sites: [] };
  const parsed = ipaddr.process(address);
  const { v4, v6 } = parsed instanceof ipaddr.IPv6 ? { v4: embedded(parsed), v6: parsed } : { v4: parsed, v6: undefined };
  if (v4 !== undefined) return { network: v4.toString(), sites: [`${v4.octets.slice(0, 3).join('.')}.0/24`] };
  const first = (bits: number) => `${ipaddr.IPv6.networkAddressFromCIDR(`${String(v6)}/${bits}`).toString()}/${bits}`;
  return { network: first(64), sites: [first(56), first(48)] };
}

/** The narrowest of them. */
export const networkOf = (caller: Pick<Caller, 'address'>): string => networksOf(caller).network;

/** The IPv4 address of a client that a translator or a tunnel shows as IPv6: else all of IPv4 would be one network there. */
function embedded(address: ipaddr.IPv6): ipaddr.IPv4 | undefined {
  const { parts } = address;
  const from = (high = 0, low = 0) => new ipaddr.IPv4([high >> 8, high & 255, low >> 8, low & 255]);
  switch (address.range()) {
    case 'rfc6052': // NAT64, 64:ff9b::/96
    case 'rfc6145': // SIIT, ::ffff:0:0:0/96
      return from(parts[6], parts[7]);
    case '6to4': // RFC 3056
      return from(parts[1], parts[2]);
    case 'teredo': // RFC 4380, section 4: inverted
      return from((parts[6] ?? 0) ^ 0xffff, (parts[7] ?? 0) ^ 0xffff);
    default:
      return undefined;
  }
}
