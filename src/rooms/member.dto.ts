import { Means, OneOf, Optional, Uuid, QueryWholeNumber } from '../rest/validation.js';

/** Names are short: a page of members can be larger than one of messages. */
export const membersPageMax = 1_000;

export class RoomParams {
  @Uuid()
  readonly id!: string;
}

export class MemberParams extends RoomParams {
  @Uuid()
  readonly user_id!: string;
}

export class MembersQuery {
  @Optional()
  @QueryWholeNumber(1, membersPageMax)
  @Means('So many at most.', { default: membersPageMax })
  readonly limit?: number;

  @Optional()
  @Uuid()
  @Means('The last user_id of the page before.')
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
