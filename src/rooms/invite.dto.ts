import { IsOptional } from 'class-validator';
import { Text, Uuid, WholeNumber } from '../rest/validation.js';
import { RoomParams } from './member.dto.js';

const minuteS = 60;
const lifeMaxS = 30 * 24 * 3_600;
const usesMax = 10_000;

export class NewInviteBody {
  @IsOptional()
  @WholeNumber(minuteS, lifeMaxS)
  readonly expires_in_s?: number | null;

  /** Left out: any number. */
  @IsOptional()
  @WholeNumber(1, usesMax)
  readonly max_uses?: number | null;
}

export class InviteParams extends RoomParams {
  @Uuid()
  readonly invite_id!: string;
}

export class CodeParams {
  @Text(1, 100)
  readonly code!: string;
}
