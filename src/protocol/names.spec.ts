import fc from 'fast-check';
import { emailKey, emailProblem, formerKey, nameKey, nameLook, nameProblem, roomKey, titleProblem } from './names.js';

const text = fc.oneof(
  fc.string({ unit: 'binary', maxLength: 20 }),
  fc.string({
    unit: fc.constantFrom(...Array.from('aAσςΣßẞİıi\u0307\u0345\u0301\u034f\ufe0f\u200d\u3164ﬃﷺᏣꮳ ﾊﾞ가각O0l1Im'), '\u1100', '\u1161'),
    maxLength: 12,
  }),
);
const keys = { nameKey, nameLook, roomKey, emailKey };

describe('keys', () => {
  it.each(Object.entries(keys))('%s is the same for a text, its key, its former key, and any case or composition of it', (_name, key) => {
    fc.assert(
      fc.property(text, (name) => {
        const same = [formerKey(name), name.normalize('NFC'), name.normalize('NFD')];
        // What a name looks like depends on its case, but for names with one key there is one account.
        if (key !== nameLook) same.push(key(name), name.toLowerCase(), nameKey(name));
        if (key !== nameLook) for (const other of same) expect(key(other)).toBe(key(name));
        else for (const other of same.slice(1)) expect(key(other)).toBe(key(name));
      }),
      { numRuns: 2_000 },
    );
  });

  it('nameKey folds each code point as Unicode does', () => {
    let differences = '';
    for (let code = 0; code <= 0x10_ffff; code++) {
      const one = String.fromCodePoint(code);
      if (/[\p{Co}\p{Cs}]/u.test(one)) continue;
      const key = nameKey(one);
      const expected = /\p{DI}/u.test(one) ? key === '' : one === 'ı' || nameKey(one.toUpperCase()) === key;
      // The engine's own simple folding, which a pattern without regard to case uses.
      const others = [one.toLowerCase(), one.toUpperCase()].filter((other) => Array.from(other).length === 1 && other !== one);
      const folds = others.every((other) => !new RegExp(`^\\u{${code.toString(16)}}$`, 'iu').test(other) || nameKey(other) === key);
      if (!expected || !folds || nameKey(key) !== key) differences += `${code.toString(16)} `;
    }
    expect(differences).toBe('');
  });

  it.each<[one: string, other: string]>([
    ['ann', 'ann\ufe0f'],
    ['ann', 'ANN'],
    ['ann', 'ａｎｎ'],
    ['ann', 'a\u034fn\u00adn'],
    ['ΝΙΚΟΣ.Π', 'νικος.π'],
    ['νικοσ', 'νικος'],
    ['STRASSE', 'straße'],
    ['STRAẞE', 'straße'],
    ['É', 'e\u0301'],
    ['ᏣᎳᎩ', 'ꮳꮃꭹ'],
    ['ﬃ', 'FFI'],
    ['ᾳ', 'ΑΙ'],
    ['می‌خواهم', 'میخواهم'],
    ['ශ්‍රී', 'ශ්රී'],
  ])('%j and %j have one key', (one, other) => {
    expect(nameKey(one)).toBe(nameKey(other));
    expect(nameLook(nameKey(one))).toBe(nameLook(nameKey(other)));
  });

  it.each<[one: string, other: string]>([
    ['AIice', 'Alice'],
    ['сосо', 'coco'],
    ['СОСО', 'coco'],
    ['роре', 'pope'],
    ['i̇smail', 'ismail'],
    ['ısmail', 'ismail'],
    ['pau1', 'paul'],
    ['b0b', 'bob'],
    ['rnary', 'mary'],
  ])('%j and %j are two names that look the same', (one, other) => {
    expect(nameKey(one)).not.toBe(nameKey(other));
    expect(nameLook(one)).toBe(nameLook(other));
  });

  it('names that differ to a reader have keys and looks of their own', () => {
    const names = [
      'ann',
      'anna',
      'Änn',
      'ann_',
      'ann.',
      'ann-',
      'アン',
      'あん',
      '王',
      '玉',
      'شهر',
      'شعر',
      'İsmail',
      'ismail',
      'bob',
      'dod',
    ];
    for (const key of [nameKey, nameLook]) expect(new Set(names.map(key)).size).toBe(names.length);
  });

  it('a room’s name has one key whatever its spaces, its invisible characters and its look', () => {
    const same = ['Book club', ' book  CLUB ', 'book\u3000club', 'book\u00a0club', 'book\u2800club', 'bооk club', 'book\u200b club\ufe0f'];
    expect(new Set(same.map(roomKey))).toEqual(new Set(['book club']));
    expect(roomKey('❤️')).toBe(roomKey('❤'));
    expect(roomKey('👩‍💻')).not.toBe(roomKey('👨‍💻'));
  });

  it('an address has one key whatever its case, and its domain in Unicode or ASCII', () => {
    const same = [
      'ann@bücher.example',
      'ANN@BÜCHER.EXAMPLE',
      'ann@xn--bcher-kva.example',
      'Ann@XN--BCHER-KVA.example',
      'ann@bücher。example',
      'ann@bu\u0308cher.example',
    ];
    expect(new Set(same.map(emailKey))).toEqual(new Set(['ann@xn--bcher-kva.example']));
    expect(emailKey('a@faß.de')).not.toBe(emailKey('a@fass.de'));
  });

  it('no key of a name of 64 characters or a room of 100 outgrows an index', () => {
    // PostgreSQL: a third of a page at most, 2,704 bytes.
    const large: string[] = [];
    for (let code = 0; code <= 0x10_ffff; code++) {
      const one = String.fromCodePoint(code);
      if (/[\p{Cn}\p{Co}\p{Cs}]/u.test(one)) continue;
      const former = Array.from(formerKey(one)).length;
      const [inName, inRoom] = [Math.floor(64 / former), Math.floor(100 / former)];
      const sizes = [inName * Buffer.byteLength(nameLook(one)), inRoom * Buffer.byteLength(roomKey(one))];
      if (Math.max(...sizes) > 2_600) large.push(`U+${code.toString(16)}: ${sizes.join(', ')}`);
    }
    expect(large).toEqual([]);
  });
});

describe('what may be chosen', () => {
  it.each(
    [
      'ann',
      'Ann_B.c-9',
      'Čačić',
      'Łódź',
      'Nguyễn',
      'Straße',
      'İsmail',
      'ısparta',
      'gal·la',
      'O_Brien',
      '1984',
      'Юля',
      'Ґалаґан',
      'ΝΙΚΟΣ.Π',
      'Ὀδυσσεύς',
      'Աննա',
      'გიორგი',
      'ᏣᎳᎩ',
      'ꮳꮃꭹ',
      'محمد',
      'علی.1370',
      'علی۱۳',
      'می‌خواهم',
      'שלום',
      'שָׁלוֹם',
      'צה״ל',
      'ܣܘܪܝܬ',
      'ދިވެހި',
      'ߒߞߏ',
      '𞤀𞤣𞤤𞤢𞤥',
      'श्रीमती',
      'क्‍ष',
      'पं१२',
      'বাংলা',
      'ਪੰਜਾਬੀ',
      'ગુજરાતી',
      'ଓଡ଼ିଆ',
      'தமிழ்',
      'తెలుగు',
      'ಕನ್ನಡ',
      'മലയാളം',
      'ශ්‍රී',
      'ලංකා',
      'สมชาย',
      'น้ำฝน',
      'ຄຳ',
      'မြန်မာ',
      'ខ្មែរ',
      'བཀྲ་ཤིས',
      'ᠮᠣᠩᠭᠣᠯ',
      'ⴰⵎⴰⵣⵉⵖ',
      'አበበ',
      '王小明',
      '二〇二〇',
      '田中さくらAI',
      'カー・レース',
      '김철수',
      'ㅋㅋ',
      'ㄅㄆ王',
    ].map((name) => [name]),
  )('%s', (name) =>
    expect([nameProblem(name), nameProblem(name.normalize('NFD')), titleProblem(name)]).toEqual([undefined, undefined, undefined]),
  );

  it.each<[name: string, phrase: RegExp]>([
    ['ann\ufe0f', /invisible characters \(U\+FE0F\)/],
    ['a\u034fnn', /U\+034F/],
    ['\u3164', /U\+3164/],
    ['\u115f\u1160', /U\+115F/],
    ['\uffa0', /U\+FFA0/],
    ['a\u17b4', /U\+17B4/],
    ['a\u00adb', /U\+00AD/],
    ['a\u200bb', /U\+200B/],
    ['a\u2060b', /U\+2060/],
    ['a\u180eb', /U\+180E/],
    ['a\u202eb', /U\+202E|letters and digits/],
    ['ann\u{e0061}', /U\+E0061/],
    ['王\u{e0100}', /U\+E0100/],
    ['ann\u200d', /zero-width joiner/],
    ['a\u200cb', /zero-width joiner/],
    ['س\u200c', /zero-width joiner/],
    ['\u200cس', /zero-width joiner/],
    ['د\u200cس', /zero-width joiner/],
    ['аnn', /mix scripts/],
    ['αnn', /mix scripts/],
    ['aոn', /mix scripts/],
    ['Ꭺnn', /mix scripts/],
    ['ann.שלום', /directions/],
    ['שלום-', /directions/],
    ['אa', /directions/],
    ['a1१', /digits/],
    ['م1١', /directions|digits/],
    ['م١۱', /digits/],
    ['a·b', /middle dot/],
    ['x・', /katakana/],
    ['a״b', /geresh/],
    ['͵a', /Greek/],
    ['\u0301a', /combining mark/],
    ['a.\u0301', /combining mark/],
    ['e\u0301\u0301', /same mark/],
    ['é\u0301', /same mark/],
    ['a\u0300\u0301\u0302\u0303\u0304', /more than four/],
    ['ក្', /joining sign/],
    ['ⴰ\u2d7f', /joining sign/],
    ['\u{13441}', /letters and digits/],
    ['a\u20dd', /letters and digits/],
    ['a b', /letters and digits/],
    ['😀', /letters and digits/],
    ['\u2800', /letters and digits/],
    ['\ue000', /letters and digits/],
    ['ﷺ', /letters and digits/],
    ['\u{16ea0}', /Unicode 16|letters and digits/], // of Unicode 17
    ['\ua7d2', /Unicode 16|letters and digits/], // of Unicode 17, and the capital of an older letter
    ['\ua7f1', /Unicode 16|letters and digits/],
  ])('not %j', (name, phrase) => expect(nameProblem(name)).toMatch(phrase));

  it.each([['❤️'], ['👩‍💻 devs'], ['🏴󠁧󠁢󠁥󠁮󠁧󠁿'], ['C++ / проект'], ['葛\u{e0100}城'], ['Wi-Fi: ناس\u200f!'], ['…'], ['µTorrent']])(
    'a room named %s',
    (name) => expect(titleProblem(name)).toBeUndefined(),
  );

  it.each<[title: string, phrase: RegExp]>([
    ...['\u200b', '\u3164', '\u2800', ' \u3000', '\u{e0100}', '\ufe0f\u200d', '\u00ad', '\u{13441}', '\u{1d159}', '\ufffc'].map(
      (name): [string, RegExp] => [name, /must have a visible character/],
    ),
    ['a\u202eb', /U\+202E/],
    ['a\u2066b', /U\+2066/],
    ['a\nb', /control characters \(U\+000A\)/],
    ['a\u0085b', /control characters/],
    ['a\u2028b', /U\+2028/],
    ['a\ue000', /U\+E000/],
    ['a\uffff', /U\+FFFF/],
    ['a\u{e0061}\u{e0062}', /U\+E0061/],
    ['\u0301a', /combining mark/],
    ['\u200b\u0301', /combining mark/],
  ])('no room named %j', (title, phrase) => expect(titleProblem(title)).toMatch(phrase));

  it.each([
    ['ann@localhost'],
    ['a+b@x.org'],
    ['jürgen@bücher.example'],
    ['用户@例子.广告'],
    ['"a b"@x.org'],
    ['ann@xn--bcher-kva.example'],
    ['علی@مثال.ایران'],
  ])('the address %s', (address) => expect(emailProblem(address)).toBeUndefined());

  it.each(
    [
      'ann\ufe0f@x.org',
      'аnn@x.org',
      'a\u200bb@x.org',
      'ann@pаypal.com',
      'ann@xn--zz.example',
      'ann@x\u200d.org',
      'ann@..',
      'ann@\u00ad',
      'a\u202e@x.org',
    ].map((address) => [address]),
  )('not the address %j', (address) => expect(emailProblem(address)).toMatch(/^must be an email address/));

  it('whatever is asked, in a time that does not grow out of hand', () => {
    fc.assert(
      fc.property(text, (name) => {
        const problems = [nameProblem(name), titleProblem(name), emailProblem(`${name}@${name}`)];
        for (const problem of problems) expect(problem ?? '').toMatch(/^(|may .*|must .*)$/u);
        if (nameProblem(name) === undefined && name !== '') expect(nameKey(name)).not.toBe('');
        if (titleProblem(name) === undefined) expect(roomKey(name)).not.toBe('');
      }),
      { numRuns: 2_000 },
    );
    const start = performance.now();
    for (const part of ['ب\u200c', 'ﷺ', '\u0301', 'a\u0300', 'xn--', '王']) {
      const long = part.repeat(128).slice(0, 254);
      for (const ask of [nameKey, nameLook, roomKey, emailKey, nameProblem, titleProblem, emailProblem]) ask(`${long}@${long}`);
    }
    expect(performance.now() - start).toBeLessThan(1_000);
  });
});
