import { IsOptional } from 'class-validator';
import { OneOf, Uuid, WholeNumber } from '../rest/validation.js';

/** Names are short: a page of members can be larger than one of messages. */
const membersPageMax = 1_000;

export class RoomParams {
  @Uuid()
  readonly id!: string;
}

export class MemberParams extends RoomParams {
  @Uuid()
  readonly user_id!: string;
}

export class MembersQuery {
  @IsOptional()
  @WholeNumber(1, membersPageMax)
  readonly limit?: number;

  /** The last user_id of the page before. */
  @IsOptional()
  @Uuid()
  readonly after?: string;
}

export class RoleBody {
  @OneOf(['admin', 'member'])
  readonly role!: 'admin' | 'member';
}

export class UserBody {
  @Uuid()
  readonly user_id!: string;
}
