/**
 * Names: which may be newly chosen, and when two are the same. No two accounts and no two rooms may
 * have names that a reader takes for one. The rules are made here and not by the database, so that
 * no locale of a server decides. They give the same answer on every node: a name has only code points
 * of Unicode 16, which the oldest supported Node knows, and Unicode never changes the key of those.
 */
import unhomoglyph from 'unhomoglyph';
import tr46 from 'tr46';

const ascii = /^[\0-\x7f]*$/;

/**
 * The key of a name: toNFKC_Casefold (Unicode 16, section 3.13.5). Case, width, composition and
 * default-ignorable code points such as U+FE0F make no difference.
 */
export function nameKey(name: string): string {
  if (ascii.test(name)) return name.toLowerCase();
  let [key, before] = [name.normalize('NFKD'), ''];
  while (key !== before) [key, before] = [caseFolded(withoutIgnorable(key)).normalize('NFKC'), key];
  return key;
}

/**
 * The key that versions before migration 0017 compare by. Where two names have one former key, they
 * have one key; hence both may be looked for, and rows of either version are found.
 */
export const formerKey = (name: string): string => name.normalize('NFKC').toLowerCase();

/**
 * What a name looks like: its skeleton (UTS 39, section 4), as it is shown, in lower case. `AIice`
 * with a capital I has the look of `Alice`, Cyrillic `сосо` that of `coco`.
 */
export const nameLook = (name: string): string => nameKey(skeleton(withoutIgnorable(name.normalize('NFKC'))).replaceAll(hiddenDot, ''));

/** The key of a room name: the look of its key, all spaces between words being one. */
export function roomKey(name: string): string {
  return nameKey(skeleton(nameKey(name.replaceAll(blanks, ' '))).replaceAll(hiddenDot, ''))
    .replaceAll(/\s+/gu, ' ')
    .trim();
}

/** The key of an address: that of the local part, and the domain in ASCII (UTS 46, nontransitional). */
export function emailKey(address: string): string {
  const { local, domain } = partsOf(address);
  if (domain === undefined) return nameKey(address);
  return `${nameKey(local)}@${tr46.toASCII(domain) ?? nameKey(domain)}`;
}

/**
 * Why a name may not be chosen, or undefined: letters, marks and digits of one script, with the rules
 * of PRECIS (RFC 8264 and 8265) for joiners, direction and context, and those of UTS 39 against
 * look-alikes. Compatibility characters may stand, which PRECIS refuses: Thai is written with one.
 * @returns a phrase that follows the field's name
 */
export function nameProblem(name: string): string | undefined {
  const invisible = /(?![\u200c\u200d])\p{DI}/u.exec(name)?.[0];
  if (invisible !== undefined) return `must not contain invisible characters (${codePoint(invisible)})`;
  const normal = name.normalize('NFKC');
  if (!nameCharacters.test(name) || !nameCharacters.test(normal) || unseen.test(normal))
    return 'may have letters and digits of any script, and _ . -';
  return ascii.test(name)
    ? undefined
    : (contextProblem(normal) ?? labelProblem(name, normal) ?? markProblem(normal) ?? scriptProblem(normal));
}

/**
 * Why a text of one line may not be shown as the name of something, or undefined. It may have spaces,
 * emoji and punctuation, of any scripts.
 * @returns a phrase that follows the field's name
 */
export function titleProblem(title: string): string | undefined {
  const control = /\p{Cc}/u.exec(title)?.[0];
  if (control !== undefined) return `must not contain control characters (${codePoint(control)})`;
  // Bidi embeddings, overrides and isolates would turn what is shown after the title.
  const bad = /[\p{Cn}\p{Co}\p{Zl}\p{Zp}\u202a-\u202e\u2066-\u2069\ufff9-\ufffb]/u.exec(title)?.[0];
  if (bad !== undefined) return `must not contain ${codePoint(bad)}, which is unassigned, breaks the line or turns its direction`;
  const tag = /[\u{e0000}-\u{e007f}]/u.exec(title.replaceAll(flags, ''))?.[0];
  if (tag !== undefined) return `must not contain ${codePoint(tag)} but in the emoji of a flag`;
  const visible = withoutIgnorable(title).replaceAll(blanks, '');
  if (visible === '') return 'must have a visible character';
  return /^\p{M}/u.test(visible) ? 'must not begin with a combining mark' : undefined;
}

/**
 * Why an address may not be used, or undefined: its domain as IDNA has it, and what is not ASCII in it
 * as in names.
 * @param address that has the syntax of one
 * @returns a phrase that follows the field's name
 */
export function emailProblem(address: string): string | undefined {
  const { local, domain = '' } = partsOf(address);
  const localProblem = ascii.test(local) ? undefined : nameProblem(local.replaceAll(/[!-,/:-@[-^`{-~]/g, '-'));
  if (localProblem !== undefined) return `must be an email address; the part before @ ${localProblem}`;
  const strict = { checkBidi: true, checkJoiners: true, useSTD3ASCIIRules: true };
  const labels = tr46.toUnicode(domain, strict).domain.split('.');
  if (tr46.toASCII(domain, { ...strict, verifyDNSLength: true }) === null || labels.some((label) => scriptProblem(label) !== undefined))
    return 'must be an email address, with a domain name as IDNA has it';
  return undefined;
}

/** An address may have an @ in quotes before the last. */
function partsOf(address: string): { local: string; domain: string | undefined } {
  const at = address.lastIndexOf('@');
  return at < 0 ? { local: address, domain: undefined } : { local: address.slice(0, at), domain: address.slice(at + 1) };
}

const withoutIgnorable = (text: string): string => text.replaceAll(/\p{DI}/gu, '');

/** Full case folding. Upper case and then lower gives it, one by one: σ and ς differ by what is around them. */
const caseFolded = (text: string): string =>
  text.replaceAll(/[^\0-\x7f]|[A-Z]/gu, (character) => {
    if (character === 'ı') return character;
    if (character === 'ẞ') return 'ss';
    const upper = character.toUpperCase();
    return cherokee.test(character) ? upper : Array.from(upper, (one) => one.toLowerCase()).join('');
  });
/** The one script that is folded to its capitals: they were in Unicode first. */
const cherokee = /[\u13a0-\u13fd\uab70-\uabbf]/;

const skeleton = (text: string): string => unhomoglyph(text.normalize('NFD')).normalize('NFD');
/** i and j have a dot already. */
const hiddenDot = /(?<=[ij]\p{M}*)\u0307/gu;

/** Letters and signs without a glyph that are neither spaces nor default-ignorable. */
const unseen = /[\u{16fe4}\u{13441}\u{13442}]/u;
const blanks = /[\u{16fe4}\s\u2800\ufffc\u{13441}\u{13442}\u{1d159}]/gu;
const flags = /\u{1f3f4}[\u{e0030}-\u{e0039}\u{e0061}-\u{e007a}]{1,6}\u{e007f}/gu;

/** With joiners, the characters of RFC 5892 that need a context, and the Tibetan tsheg (its section 2.6). */
export const nameCharacters = /^[\p{L}\p{Mn}\p{Mc}\p{N}_.\-\u00b7\u0375\u05f3\u05f4\u0f0b\u30fb\u200c\u200d]+$/u;

/** What UTS 46 asks of a label, a name being one. */
function labelProblem(typed: string, name: string): string | undefined {
  // A dot would part it into labels, whose direction is judged one by one.
  const label = nameKeyWithJoiners(name).replaceAll('.', '-');
  const isWrong = (options?: tr46.Options): boolean => tr46.toUnicode(label, options).error;
  if (/(^|[_.-])\p{M}/u.test(name)) return 'must not have a combining mark without a letter before it';
  const isNew = (character: string): boolean => tr46.toUnicode(`a${character}`).error;
  // As it was typed too: a new letter may be folded to an old one.
  const unknown = Array.from(`${typed}${label}`.replaceAll(/[-_.\u200c\u200d]/gu, '')).find(isNew);
  if (unknown !== undefined) return `must not contain ${codePoint(unknown)}, which is not among the letters of Unicode 16`;
  if (isWrong({ checkJoiners: true })) return 'may have a zero-width joiner only where its script needs one (RFC 5892, A.1 and A.2)';
  if (isWrong({ checkBidi: true }))
    return 'must not mix directions: written from right to left, it begins with a letter and ends with a letter or digit (RFC 5893)';
  return undefined;
}

const nameKeyWithJoiners = (name: string): string =>
  name
    .split(/([\u200c\u200d])/)
    .map((part, n) => (n % 2 === 0 ? nameKey(part) : part))
    .join('');

/** RFC 5892, appendices A.3 to A.9: punctuation that belongs to the words of some languages. */
const contexts: readonly [misplaced: RegExp, phrase: string][] = [
  [/(?<!l)\u00b7|\u00b7(?!l)/iu, 'may have a middle dot only between two l'],
  [/\u0375(?!\p{scx=Grek})/u, 'may have a Greek numeral sign only before Greek'],
  [/(?<!\p{scx=Hebr})[\u05f3\u05f4]/u, 'may have geresh and gershayim only after Hebrew'],
  [
    /^[^\p{sc=Hira}\p{sc=Kana}\p{sc=Hani}]*\u30fb[^\p{sc=Hira}\p{sc=Kana}\p{sc=Hani}]*$/u,
    'may have a katakana middle dot only with Japanese',
  ],
];

function contextProblem(name: string): string | undefined {
  const digits = new Set(Array.from(name.matchAll(/\p{Nd}/gu), ([digit]) => zeroOf(digit)));
  if (digits.size > 1) return 'must not mix digits of several scripts';
  return contexts.find(([misplaced]) => misplaced.test(name))?.[1];
}

/** Decimal digits stand together, ten and ten, from zero on. */
function zeroOf(digit: string): number {
  let zero = digit.codePointAt(0) ?? 0;
  while (/\p{Nd}/u.test(String.fromCodePoint(zero - 1))) zero--;
  return zero;
}

/** UTS 39, section 5.4, and the signs that join two letters and are not seen by themselves. */
function markProblem(name: string): string | undefined {
  const decomposed = name.normalize('NFD');
  if (/(\p{Mn})\1|\p{Mn}{5}/u.test(decomposed)) return 'must not have the same mark twice on a letter, or more than four';
  return stackerWithoutLetter.test(decomposed) ? 'must not have a joining sign without a letter after it' : undefined;
}
/** Indic_Syllabic_Category=Invisible_Stacker, and the joiners of Tifinagh and Brahmi. */
const stackerWithoutLetter =
  /[\u1039\u17d2\u1a60\u1bab\u2d7f\uaaf6\u{10a3f}\u{1107f}\u{11133}\u{113d0}\u{1193e}\u{11a47}\u{11a99}\u{11d45}\u{11d97}\u{11f42}\u{1612f}](?!\p{L})/u;

/** Highly Restrictive (UTS 39, section 5.2): one script, or Latin with those that are written together in East Asia. */
function scriptProblem(name: string): string | undefined {
  return oneScript().some((script) => script.test(name))
    ? undefined
    : 'must not mix scripts, as Latin and Cyrillic letters that look alike';
}

const withCommon = (scripts: readonly string[]): RegExp =>
  new RegExp(`^[\\p{scx=Zyyy}\\p{scx=Zinh}${scripts.map((script) => `\\p{scx=${script}}`).join('')}]*$`, 'u');
let scriptsMade: readonly RegExp[] | undefined;
const oneScript = (): readonly RegExp[] => (scriptsMade ??= [...together, ...scripts.map((script) => [script])].map(withCommon));
const together = [
  ['Latn', 'Hani', 'Hira', 'Kana'],
  ['Latn', 'Hani', 'Bopo'],
  ['Latn', 'Hani', 'Hang'],
];
/** The scripts of Unicode 16 by their codes of ISO 15924. */
const scripts = (
  'Arab Cyrl Grek Hebr Deva Beng Thai Armn Geor Ethi Adlm Aghb Ahom Armi Avst Bali Bamu Bass Batk Bhks Brah Brai Bugi Buhd Cakm Cans Cari Cham ' +
  'Cher Chrs Copt Cpmn Cprt Diak Dogr Dsrt Dupl Egyp Elba Elym Gara Glag Gong Gonm Goth Gran Gujr Gukh Guru Hano Hatr Hluw Hmng Hmnp Hung Ital ' +
  'Java Kali Kawi Khar Khmr Khoj Kits Knda Krai Kthi Lana Laoo Lepc Limb Lina Linb Lisu Lyci Lydi Mahj Maka Mand Mani Marc Medf Mend Merc Mero ' +
  'Mlym Modi Mong Mroo Mtei Mult Mymr Nagm Nand Narb Nbat Newa Nkoo Nshu Ogam Olck Onao Orkh Orya Osge Osma Ougr Palm Pauc Perm Phag Phli Phlp ' +
  'Phnx Plrd Prti Rjng Rohg Runr Samr Sarb Saur Sgnw Shaw Shrd Sidd Sind Sinh Sogd Sogo Sora Soyo Sund Sunu Sylo Syrc Tagb Takr Tale Talu Taml ' +
  'Tang Tavt Telu Tfng Tglg Thaa Tibt Tirh Tnsa Todr Toto Tutg Ugar Vaii Vith Wara Wcho Xpeo Xsux Yezi Yiii Zanb'
).split(' ');

const codePoint = (character: string): string => `U+${(character.codePointAt(0) ?? 0).toString(16).toUpperCase().padStart(4, '0')}`;
