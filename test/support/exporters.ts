/**
 * What the exporters of docker-compose.yml give, as far as the alerts and the dashboard use it: metrics with their labels, beside `job` and
 * `instance`, which Prometheus adds.
 *
 * Names are those that nginx-prometheus-exporter 0.11.0 and postgres_exporter 0.11.1 gave for Nginx 1.22 with nginx/plain.conf and PostgreSQL 15.
 * To make the list anew, start both (on Debian: prometheus-nginx-exporter, prometheus-postgres-exporter) against a server of each and ask them:
 * `curl -s 127.0.0.1:9113/metrics 127.0.0.1:9187/metrics | grep -E '^(nginx|pg)_'`. The labels are from the sources of the versions in
 * docker-compose.yml, 1.5.1 (collector/nginx.go) and 0.20.1 (collector/pg_*.go), where all names are the same; 0.11.1 had fewer of pg_stat_activity.
 */
const session = ['datname', 'state', 'usename', 'application_name', 'backend_type', 'wait_event_type', 'wait_event'];

export const exporterMetrics: ReadonlyMap<string, readonly string[]> = new Map([
  ['nginx_up', []],
  ['nginx_connections_active', []],
  ['pg_up', []],
  ['pg_database_size_bytes', ['datname']],
  ['pg_settings_max_connections', []],
  ['pg_stat_activity_count', session],
  ['pg_stat_activity_max_tx_duration', session],
]);
