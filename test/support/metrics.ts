/** The text format of Prometheus, read strictly: https://prometheus.io/docs/instrumenting/exposition_formats/ */
export interface Series {
  readonly name: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly value: number;
}

export interface Family {
  readonly type: string;
  readonly help: string;
  readonly series: Series[];
}

const sampleLine = /^([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)$/;
const labelPattern = /([a-zA-Z_]\w*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)/gy;

/** @throws Error on a line that is not of the format, a series without help and type, or one that is there twice. */
function parseMetrics(text: string): Map<string, Family> {
  const families = new Map<string, Family>();
  const helps = new Map<string, string>();
  const seen = new Set<string>();
  for (const line of text.split('\n')) {
    const [, keyword, name = '', rest = ''] = /^# (HELP|TYPE) (\S+) (.+)$/.exec(line) ?? [];
    if (line === '') continue;
    if (keyword === 'HELP') helps.set(name, rest);
    else if (keyword === 'TYPE') families.set(name, { type: rest, help: helps.get(name) ?? '', series: [] });
    else {
      const series = parseSample(line);
      const family = families.get(series.name) ?? families.get(series.name.replace(/_(bucket|sum|count)$/, ''));
      const key = `${series.name}${keyOf(series.labels)}`;
      if (family === undefined || family.help === '' || seen.has(key)) throw new Error(`not as it should be: ${line}`);
      seen.add(key);
      family.series.push(series);
    }
  }
  return families;
}

const keyOf = (labels: Readonly<Record<string, string>>): string =>
  Object.entries(labels)
    .map(([name, value]) => `${name}=${JSON.stringify(value)}`)
    .toSorted((a, b) => a.localeCompare(b))
    .join();

function parseSample(line: string): Series {
  const [, name, labelText = '', number = ''] = sampleLine.exec(line) ?? [];
  if (name === undefined || (Number.isNaN(Number(number)) && !/^(Nan|[+-]Inf)$/i.test(number))) throw new Error(`not a sample: ${line}`);
  const labels: Record<string, string> = {};
  let end = 0;
  for (const match of labelText.matchAll(labelPattern)) {
    labels[match[1] ?? ''] = match[2] ?? '';
    end = match.index + match[0].length;
  }
  if (end !== labelText.length) throw new Error(`labels that can't be read: ${line}`);
  return { name, labels, value: Number(number) };
}

/** One scrape of a node whose METRICS_PORT is given. */
export async function scrape(port: number, signal?: AbortSignal): Promise<Scrape> {
  const answer = await fetch(`http://127.0.0.1:${port}/metrics`, signal === undefined ? {} : { signal });
  if (answer.status !== 200) throw new Error(`/metrics answered ${answer.status}`);
  return new Scrape(parseMetrics(await answer.text()), answer.headers.get('content-type') ?? '');
}

export class Scrape {
  constructor(
    readonly families: ReadonlyMap<string, Family>,
    readonly contentType: string,
  ) {}

  /** The value of the series with exactly these labels; undefined where there is none. */
  value(name: string, labels: Record<string, string> = {}): number | undefined {
    const wanted = keyOf(labels);
    return this.all(name).find((series) => keyOf(series.labels) === wanted)?.value;
  }

  sum(name: string): number {
    return this.all(name).reduce((sum, { value }) => sum + value, 0);
  }

  private all(name: string): Series[] {
    return [...this.families.values()].flatMap(({ series }) => series).filter((series) => series.name === name);
  }
}
