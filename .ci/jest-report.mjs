// Prints of a report of `jest --json` how many tests passed, and each that failed: a test by its name, a file that could not run by its own.
import { readFileSync } from 'node:fs';
import { relative } from 'node:path';

const report = JSON.parse(readFileSync(process.argv[2], 'utf8'));
process.stdout.write(`passed ${report.numPassedTests}\n`);
for (const { name, status, assertionResults } of report.testResults) {
  const file = relative(process.cwd(), name);
  const failed = assertionResults.filter((test) => test.status === 'failed');
  for (const { fullName } of failed) process.stdout.write(`${file}: ${fullName.replaceAll('\n', ' ')}\n`);
  if (status === 'failed' && failed.length === 0) process.stdout.write(`${file} could not run\n`);
}
