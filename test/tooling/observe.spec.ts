/** What observe/ says of Nginx and PostgreSQL; what it asks of the nodes is in test/metrics.spec.ts, the rules themselves are promtool's to test. */
import { readFile } from 'node:fs/promises';
import { parse } from 'yaml';
import { exporterMetrics } from '../support/exporters.js';

const read = (file: string): Promise<string> => readFile(new URL(`../../${file}`, import.meta.url), 'utf8');
const all = (text: string, pattern: RegExp): string[] => [...text.matchAll(pattern)].map(([, found = '']) => found);

interface Rule {
  readonly alert: string;
  readonly expr: string;
}

async function rules(): Promise<Rule[]> {
  const { groups } = parse(await read('observe/alerts.yml')) as { groups: { rules: Rule[] }[] };
  return groups.flatMap((group) => group.rules);
}

async function expressions(): Promise<string[]> {
  const { panels } = JSON.parse(await read('observe/grafana/dashboards/trunkline.json')) as { panels: { targets: { expr: string }[] }[] };
  return [...(await rules()), ...panels.flatMap(({ targets }) => targets)].map(({ expr }) => expr);
}

describe('the alerts and the dashboard', () => {
  it('ask the exporters for metrics and labels that these have', async () => {
    const asked = new Set<string>();
    for (const expr of await expressions()) {
      const names = all(expr, /\b((?:nginx|pg)_\w+)/g);
      for (const name of names) asked.add(name);
      const labels = names.flatMap((name) => exporterMetrics.get(name) ?? []);
      const known = new Set(['instance', 'job', ...labels]);
      const used = [...all(expr, /\b(?:by|on) \(([^)]*)\)/g).flatMap((list) => list.split(/, */)), ...all(expr, /(\w+)(?:!=|=~|!~|=)"/g)];
      if (names.length > 0) expect([expr, used.filter((label) => !known.has(label))]).toEqual([expr, []]);
    }
    expect([...asked].toSorted()).toEqual([...exporterMetrics.keys()].toSorted());
  });

  it('are of jobs that Prometheus has, and those of services of compose', async () => {
    const { scrape_configs: jobs } = parse(await read('observe/prometheus.yml')) as {
      scrape_configs: { job_name: string; static_configs: { targets: string[] }[] }[];
    };
    const { services } = parse(await read('docker-compose.yml'), { merge: true }) as { services: Record<string, unknown> };
    const named = new Set((await expressions()).flatMap((expr) => all(expr, /\bjob="(\w+)"/g)));
    expect([...named].toSorted()).toEqual(jobs.map(({ job_name }) => job_name).toSorted());
    const hosts = jobs.flatMap((job) => job.static_configs.flatMap(({ targets }) => targets.map((target) => target.split(':')[0] ?? '')));
    expect(hosts.length).toBeGreaterThan(jobs.length);
    expect(hosts.filter((host) => !(host in services))).toEqual([]);
  });

  it('know the worker_connections of nginx.conf', async () => {
    const [limit] = all(await read('nginx/nginx.conf'), /worker_connections (\d+);/g);
    const { expr } = (await rules()).find(({ alert }) => alert === 'NginxConnectionsHigh') ?? {};
    expect(expr).toBe(`nginx_connections_active > 0.75 * ${limit} / 2`);
  });

  it('are tested, each silent and each firing', async () => {
    const { tests } = parse(await read('observe/alerts.test.yml')) as {
      tests: { alert_rule_test: { alertname: string; exp_alerts?: object[] }[] }[];
    };
    const cases = tests.flatMap(({ alert_rule_test }) => alert_rule_test);
    const tested = (fires: boolean) =>
      new Set(cases.filter((one) => (one.exp_alerts !== undefined) === fires).map(({ alertname }) => alertname));
    const alerts = (await rules()).map(({ alert }) => alert);
    expect(alerts.filter((alert) => !tested(true).has(alert) || !tested(false).has(alert))).toEqual([]);
  });
});
