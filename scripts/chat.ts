/** npm run chat: a terminal as a client of Trunkline, and an example of one that loses nothing. `--help` says how it is used. */
import { Command } from 'commander';
import { openRoom, readRecent, signIn, Unusable } from './chat/account.js';
import { LinePrompt, type Prompt, Pipe } from './chat/prompt.js';
import { ChatSession } from './chat/session.js';
import { eventLine, messageLines, plainText } from './chat/text.js';

interface Options {
  user: string;
  room: string;
  url: string;
  email?: string;
  password?: string;
}

const options = new Command('npm run chat --')
  .description('Chats in a room from the terminal. Who is new is registered, a room that is new is made.')
  .requiredOption('-u, --user <name>', 'your name')
  .requiredOption('-r, --room <name>', 'the room to chat in')
  .option('--url <url>', 'any node, or the proxy before them', 'http://localhost:3000')
  .option('--email <address>', 'your address, if you are new (one is made up from the name)')
  .option('--password <password>', 'your password; better TRUNKLINE_PASSWORD, or wait to be asked')
  .addHelpText(
    'after',
    `
Type a line to send it; Ctrl-C or Ctrl-D leaves. The connection comes back by itself, and what was said meanwhile is shown.
What stands in a pipe is sent line by line, and the program ends when the last line was stored.

Examples:
  npm run chat -- --user ann --room lobby
  npm run chat -- --user bob --room lobby --url http://localhost:3001
  echo "the backup is done" | TRUNKLINE_PASSWORD=… npm run chat -- --user robot --room lobby`,
  )
  .parse()
  .opts<Options>();

const signals = ['SIGINT', 'SIGTERM'] as const;
const prompt: Prompt = process.stdin.isTTY && process.stdout.isTTY ? new LinePrompt(`${plainText(options.user)}> `) : new Pipe();

try {
  process.exitCode = await chat();
} catch (error) {
  if (!(error instanceof Unusable)) throw error;
  prompt.notice(error.message);
  process.exitCode = 1;
} finally {
  prompt.close();
}

/** @returns the exit code */
async function chat(): Promise<number> {
  if (!URL.canParse(options.url) || !/^https?:\/\//.test(options.url))
    throw new Unusable(`--url ${options.url}: must be like http://localhost:3000`);
  const password = options.password ?? process.env['TRUNKLINE_PASSWORD'] ?? (await prompt.askPassword(`Password of ${options.user}: `));
  if (password === undefined)
    throw new Unusable('There is no terminal to ask for the password: set TRUNKLINE_PASSWORD or give --password.');

  const account = await signIn(options.url, { username: options.user, email: options.email, password });
  if (account.isNew) prompt.notice(`Welcome, ${account.user.username}: you are registered now.`);
  const room = await openRoom(account, options.room);
  const recent = await readRecent(account, room.id);
  for (const message of recent.messages) prompt.show(messageLines(message));

  const session = new ChatSession(account, room.id, recent.lastSeq, {
    message: (message) => prompt.show(messageLines(message)),
    event: (event) => prompt.aside(eventLine(event)),
    notice: (text) => prompt.notice(text),
  });
  session.start();

  const leave = (): void => {
    for (const signal of signals) process.on(signal, () => process.exit(130)); // who insists
    session.leave();
  };
  for (const signal of signals) process.once(signal, leave);
  prompt.start(
    async (line) => {
      if (line.trim() !== '') await session.send(line);
    },
    (isFinal) => (isFinal ? session.leaveWhenSent() : leave()),
  );

  const end = await session.ended;
  await account.logOut();
  if (end.unsent > 0) prompt.notice(`${end.unsent} ${end.unsent === 1 ? 'message' : 'messages'} may not have been stored.`);
  if (end.reason !== undefined) prompt.notice(end.reason);
  return end.reason === undefined && end.unsent === 0 ? 0 : 1;
}
