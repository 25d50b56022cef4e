import { nameCharacters, nameProblem, titleProblem } from '../protocol/names.js';
import { EmailAddress, Means, Optional, Text, TrueOrFalse, Uuid } from '../rest/validation.js';

const nameMaxCharacters = 64;
/** RFC 5321, section 4.5.3.1.3, less the brackets. */
const emailMaxCharacters = 254;
const passwordMinCharacters = 8;
/** Long enough for any phrase, short enough that hashing one is never dear. */
const passwordMaxCharacters = 256;
const refreshTokenMaxCharacters = 256;

const deviceNameMaxCharacters = 64;
const deviceName = { pattern: /^\P{Cc}+$/u, problem: titleProblem };
const username = { pattern: nameCharacters, problem: nameProblem };

export class RegisterBody {
  @Text(1, nameMaxCharacters, username)
  @Means(
    'Letters and digits of one script (RFC 8265, and Highly Restrictive of UTS 39), and _ . -. Case and width make no difference, and two accounts never have names that look the same.',
    { example: 'ann' },
  )
  readonly username!: string;

  @EmailAddress(emailMaxCharacters)
  @Means('Belongs to one account in whatever case; the domain as IDNA has it, in Unicode or in ASCII.', { example: 'ann@example.org' })
  readonly email!: string;

  @Text(passwordMinCharacters, passwordMaxCharacters)
  @Means('Kept as an argon2id hash.', { example: 'correct horse' })
  readonly password!: string;

  @Optional()
  @Text(1, deviceNameMaxCharacters, deviceName)
  @Means('Shown in the list of sessions; left out, it is made from User-Agent.')
  readonly device_name?: string | null;
}

/** Looser than what may be registered: what no account can have is simply wrong. */
export class LoginBody {
  @Optional()
  @Text(1, emailMaxCharacters)
  @Means('This, or username.', { example: 'ann@example.org' })
  readonly email?: string | null;

  @Optional()
  @Text(1, nameMaxCharacters)
  @Means('This, or email.')
  readonly username?: string | null;

  @Text(1, passwordMaxCharacters)
  @Means('The password of the account.', { example: 'correct horse' })
  readonly password!: string;

  @Optional()
  @Text(1, deviceNameMaxCharacters, deviceName)
  @Means('Shown in the list of sessions; left out, it is made from User-Agent.')
  readonly device_name?: string | null;
}

export class RefreshBody {
  @Optional()
  @Text(1, refreshTokenMaxCharacters)
  @Means('Left out, the cookie is taken.')
  readonly refreshToken?: string | null;
}

export class LogoutBody {
  @Optional()
  @Uuid()
  @Means('Left out, it is the session that asks.')
  readonly sessionId?: string | null;

  @Optional()
  @TrueOrFalse()
  @Means('Every session of the user.', { default: false })
  readonly all?: boolean | null;
}

export class PasswordBody {
  @Text(1, passwordMaxCharacters)
  readonly current_password!: string;

  @Text(passwordMinCharacters, passwordMaxCharacters)
  readonly new_password!: string;
}

export class SessionParams {
  @Uuid()
  readonly id!: string;
}
