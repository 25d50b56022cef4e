/** Latencies in µs of the generators' clock, told as percentiles in ms. */
import * as hdr from 'hdr-histogram-js';
import type { Percentiles } from './plan.js';

/** Since 1970, of a clock that does not jump and that all processes of the machine share. */
export const microseconds = (): number => (performance.timeOrigin + performance.now()) * 1_000;

export function histogram(): hdr.Histogram {
  return hdr.build({ lowestDiscernibleValue: 1, highestTrackableValue: 3_600_000_000, numberOfSignificantValueDigits: 3 });
}

export function percentiles(of: hdr.Histogram): Percentiles {
  const ms = (percentile: number) => of.getValueAtPercentile(percentile) / 1_000;
  return { p50: ms(50), p95: ms(95), p99: ms(99), max: of.maxValue / 1_000, count: of.totalCount };
}

/** As a histogram takes it. */
export const whole = (us: number): number => Math.max(0, Math.round(us));
