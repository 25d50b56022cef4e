import { Transform } from 'class-transformer';
import { IsOptional } from 'class-validator';
import { OneOf, Text, Uuid, WholeNumber } from '../rest/validation.js';
import type { History } from './room.store.js';

const nameMaxCharacters = 100;
const descriptionMaxCharacters = 1_000;
const roomsPageMax = 100;
/** Names are short: a page of members can be larger than one of messages. */
const membersPageMax = 1_000;

const name = { expression: /^\P{Cc}+$/u, allowed: 'must not contain control characters' };

export class NewRoomBody {
  @Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.trim() : value))
  @Text(1, nameMaxCharacters, name)
  readonly name!: string;

  @IsOptional()
  @Text(0, descriptionMaxCharacters)
  readonly description?: string | null;

  @IsOptional()
  @OneOf(['shared', 'joined'])
  readonly history?: History | null;
}

export class RoomsQuery {
  @IsOptional()
  @WholeNumber(1, roomsPageMax)
  readonly limit?: number;

  @IsOptional()
  @Uuid()
  readonly before?: string;

  @IsOptional()
  @Text(0, nameMaxCharacters)
  readonly q?: string;

  /** The rooms of the caller. */
  @IsOptional()
  @OneOf(['me'])
  readonly member?: 'me';
}

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
