import { Means, Optional, Text, Uuid, WholeNumber } from '../rest/validation.js';
import { RoomParams } from './member.dto.js';

const minuteS = 60;
export const inviteLifeS = 7 * 24 * 3_600;
const lifeMaxS = 30 * 24 * 3_600;
const usesMax = 10_000;

export class NewInviteBody {
  @Optional()
  @WholeNumber(minuteS, lifeMaxS)
  @Means('Seconds until nobody can use it any more.', { default: inviteLifeS })
  readonly expires_in_s?: number | null;

  @Optional()
  @WholeNumber(1, usesMax)
  @Means('How many users it lets in; left out, any number.')
  readonly max_uses?: number | null;
}

export class InviteParams extends RoomParams {
  @Uuid()
  readonly invite_id!: string;
}

export class CodeParams {
  @Text(1, 100)
  @Means('As it was told when the invitation was made.')
  readonly code!: string;
}
