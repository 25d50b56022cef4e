import { Transform } from 'class-transformer';
import { IsBoolean, IsOptional } from 'class-validator';
import { OneOf, Text, Uuid, WholeNumber } from '../rest/validation.js';
import type { History } from './room.store.js';

const nameMaxCharacters = 100;
const descriptionMaxCharacters = 1_000;
const roomsPageMax = 100;

const name = { expression: /^\P{Cc}+$/u, allowed: 'must not contain control characters' };

const Trimmed = (): PropertyDecorator => Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.trim() : value));

export class NewRoomBody {
  @Trimmed()
  @Text(1, nameMaxCharacters, name)
  readonly name!: string;

  @IsOptional()
  @Text(0, descriptionMaxCharacters)
  readonly description?: string | null;

  @IsOptional()
  @OneOf(['shared', 'joined'])
  readonly history?: History | null;

  /** Invisible to who is no member, joined by invitation. */
  @IsOptional()
  @IsBoolean({ message: 'must be true or false' })
  readonly private?: boolean | null;
}

/** What is left out stays as it is. */
export class RoomChangesBody {
  @IsOptional()
  @Trimmed()
  @Text(1, nameMaxCharacters, name)
  readonly name?: string | null;

  @IsOptional()
  @Text(0, descriptionMaxCharacters)
  readonly description?: string | null;

  @IsOptional()
  @OneOf(['shared', 'joined'])
  readonly history?: History | null;

  /** Members stay members either way; who was invited may still come in. */
  @IsOptional()
  @IsBoolean({ message: 'must be true or false' })
  readonly private?: boolean | null;
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
