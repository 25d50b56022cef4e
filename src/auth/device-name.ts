const maxCharacters = 64;

/** In this order: most browsers claim to be several others too. */
const browsers: readonly [name: string, sign: RegExp][] = [
  ['Edge', /\bEdg(e|A|iOS)?\//],
  ['Opera', /\bOPR\//],
  ['Firefox', /\b(Firefox|FxiOS)\//],
  ['Chrome', /\b(Chrome|CriOS)\//],
  ['Safari', /\bSafari\//],
];
const systems: readonly [name: string, sign: RegExp][] = [
  ['iPhone', /\biPhone\b/],
  ['iPad', /\biPad\b/],
  ['Android', /\bAndroid\b/],
  ['Windows', /\bWindows\b/],
  ['Mac', /\bMac OS X\b/],
  ['ChromeOS', /\bCrOS\b/],
  ['Linux', /\bLinux\b/],
];

/** A User-Agent (RFC 9110, section 10.1.5) in the words of somebody who looks for his own device; what is no browser is called what it calls itself. */
export function deviceNameOf(userAgent: string): string {
  const named = (list: typeof browsers): string | undefined => list.find(([, sign]) => sign.test(userAgent))?.[0];
  const browser = named(browsers);
  const system = named(systems);
  if (browser !== undefined) return system === undefined ? browser : `${browser} on ${system}`;
  // As titleProblem has it for the name that a client gives: nothing in it turns the line or breaks it.
  return userAgent
    .replaceAll(/[\p{C}\p{DI}\p{Zl}\p{Zp}]/gu, '')
    .slice(0, maxCharacters)
    .trim();
}
