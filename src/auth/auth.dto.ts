import { IsBoolean, IsOptional } from 'class-validator';
import { EmailAddress, Text, Uuid } from '../rest/validation.js';

const nameMaxCharacters = 64;
/** RFC 5321, section 4.5.3.1.3, less the brackets. */
const emailMaxCharacters = 254;
const passwordMinCharacters = 8;
/** Long enough for any phrase, short enough that hashing one is never dear. */
const passwordMaxCharacters = 256;
const refreshTokenMaxCharacters = 256;

const deviceNameMaxCharacters = 64;
const deviceName = { expression: /^\P{Cc}+$/u, allowed: 'must not contain control characters' };

const username = {
  // \p{M}: the vowel signs that many scripts can't do without.
  expression: /^[\p{L}\p{M}\p{N}_.-]+$/u,
  allowed: 'may have letters and digits of any script, and _ . -',
};

export class RegisterBody {
  @Text(1, nameMaxCharacters, username)
  readonly username!: string;

  @EmailAddress(emailMaxCharacters)
  readonly email!: string;

  @Text(passwordMinCharacters, passwordMaxCharacters)
  readonly password!: string;

  @IsOptional()
  @Text(1, deviceNameMaxCharacters, deviceName)
  readonly device_name?: string | null;
}

/** Looser than what may be registered: what no account can have is simply wrong. */
export class LoginBody {
  @IsOptional()
  @Text(1, emailMaxCharacters)
  readonly email?: string | null;

  @IsOptional()
  @Text(1, nameMaxCharacters)
  readonly username?: string | null;

  @Text(1, passwordMaxCharacters)
  readonly password!: string;

  @IsOptional()
  @Text(1, deviceNameMaxCharacters, deviceName)
  readonly device_name?: string | null;
}

export class RefreshBody {
  @IsOptional()
  @Text(1, refreshTokenMaxCharacters)
  readonly refreshToken?: string | null;
}

export class LogoutBody {
  @IsOptional()
  @Uuid()
  readonly sessionId?: string | null;

  @IsOptional()
  @IsBoolean({ message: 'must be true or false' })
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
