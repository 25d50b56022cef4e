import type { FastifyRequest } from 'fastify';
import { callerOf, networkOf, networksOf } from './caller.js';

const request = (ip: string, userAgent?: string, remoteAddress: string | undefined = '192.0.2.1') =>
  ({ ip, socket: { remoteAddress }, headers: { 'user-agent': userAgent } }) as FastifyRequest;
const addressOf = (ip: string) => callerOf(request(ip)).address;

it('an address is told as such, whatever a proxy made of it', () => {
  expect(addressOf('203.0.113.7')).toBe('203.0.113.7');
  expect(addressOf('::ffff:203.0.113.7')).toBe('203.0.113.7');
  expect(addressOf('203.0.113.7:4711')).toBe('203.0.113.7');
  expect(addressOf('2001:DB8:0:0::1')).toBe('2001:db8::1');
  expect(addressOf('[2001:db8::1]:443')).toBe('2001:db8::1');
  expect(addressOf('fe80::1%eth0')).toBe('fe80::1');
});

it('what is no address stands for whoever brought it', () => {
  for (const text of ['unknown', '', '_hidden', '203.0.113.7.8', '1; DROP TABLE users', '😀']) expect(addressOf(text)).toBe('192.0.2.1');
  expect(callerOf({ ...request(''), socket: {} } as FastifyRequest).address).toBeNull();
});

it('a network is an IPv4 address, or the 64 bits that a customer of IPv6 gets', () => {
  const network = (ip: string) => networkOf(callerOf(request(ip)));
  expect(network('203.0.113.7')).not.toBe(network('203.0.113.8'));
  expect(network('2001:db8:1:2::1')).toBe(network('2001:db8:1:2:ffff::9'));
  expect(network('2001:db8:1:2::1')).not.toBe(network('2001:db8:1:3::1'));
});

it('around a network are the sites that one customer may have all of', () => {
  const networks = (ip: string) => networksOf(callerOf(request(ip)));
  expect(networks('203.0.113.7')).toEqual({ network: '203.0.113.7', sites: ['203.0.113.0/24'] });
  expect(networks('2001:db8:1:2aff::1')).toEqual({
    network: '2001:db8:1:2aff::/64',
    sites: ['2001:db8:1:2a00::/56', '2001:db8:1::/48'],
  });
});

it('an IPv4 address that comes by a translator or a tunnel is one of IPv4', () => {
  const v4 = networksOf({ address: '203.0.113.7' });
  for (const ip of ['::ffff:203.0.113.7', '64:ff9b::cb00:7107', '::ffff:0:cb00:7107', '2002:cb00:7107::1', '2001:0:1:2:3:4:34ff:8ef8'])
    expect([ip, networksOf({ address: ip })]).toEqual([ip, v4]);
  expect(networksOf({ address: null })).toEqual({ network: '', sites: [] });
});

it('a device is called as it was given, else in the words of its user, else what it calls itself', () => {
  const named = (userAgent: string, given?: string) => callerOf(request('::1', userAgent), given).deviceName;
  const [mozilla, webkit] = ['Mozilla/5.0', 'AppleWebKit/537.36 (KHTML, like Gecko)'];
  expect(named(`${mozilla} (Windows NT 10.0; Win64; x64) ${webkit} Chrome/138.0.0.0 Safari/537.36 Edg/138.0`)).toBe('Edge on Windows');
  expect(named(`${mozilla} (Linux; Android 10; K) ${webkit} Chrome/138.0.0.0 Mobile Safari/537.36`)).toBe('Chrome on Android');
  expect(named(`${mozilla} (iPhone; CPU iPhone OS 18_5 like Mac OS X) ${webkit} Version/18.5 Safari/604.1`)).toBe('Safari on iPhone');
  expect(named(`${mozilla} (Macintosh; Intel Mac OS X 10.15; rv:140.0) Gecko/20100101 Firefox/140.0`)).toBe('Firefox on Mac');
  expect(named('Firefox/1')).toBe('Firefox');
  expect(named('curl/8.5.0')).toBe('curl/8.5.0');
  expect(named('x'.repeat(500))).toBe('x'.repeat(64));
  expect(named('curl/8.5.0', 'my laptop')).toBe('my laptop');
  expect(callerOf(request('::1')).deviceName).toBe('');
});
