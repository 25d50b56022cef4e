import { Transform } from 'class-transformer';
import { titleProblem } from '../protocol/names.js';
import { Means, OneOf, Optional, Text, TrueOrFalse, Uuid, QueryWholeNumber } from '../rest/validation.js';
import type { History } from './room.store.js';

const nameMaxCharacters = 100;
const descriptionMaxCharacters = 1_000;
const roomsPageMax = 100;
export const roomsPage = 50;

const name = { pattern: /^\P{Cc}+$/u, problem: titleProblem };

const Trimmed = (): PropertyDecorator => Transform(({ value }: { value: unknown }) => (typeof value === 'string' ? value.trim() : value));

export class NewRoomBody {
  @Trimmed()
  @Text(1, nameMaxCharacters, name)
  @Means(
    'Case, width, kinds of space and characters that look alike (UTS 39) make no difference: a name stands for one room. Spaces around it are taken away.',
    { example: 'lobby' },
  )
  readonly name!: string;

  @Optional()
  @Text(0, descriptionMaxCharacters)
  @Means('What the room is for.', { default: '' })
  readonly description?: string | null;

  @Optional()
  @OneOf(['shared', 'joined'])
  @Means('Whether members may read what is older than their own join.', { default: 'shared' })
  readonly history?: History | null;

  @Optional()
  @TrueOrFalse()
  @Means('Invisible to who is no member, joined by invitation.', { default: false })
  readonly private?: boolean | null;
}

/** What is left out stays as it is. */
export class RoomChangesBody {
  @Optional()
  @Trimmed()
  @Text(1, nameMaxCharacters, name)
  readonly name?: string | null;

  @Optional()
  @Text(0, descriptionMaxCharacters)
  readonly description?: string | null;

  @Optional()
  @OneOf(['shared', 'joined'])
  @Means('Whether members may read what is older than their own join. A change to shared shows nothing that was said before it.')
  readonly history?: History | null;

  @Optional()
  @TrueOrFalse()
  @Means('Members stay members either way; an invitation stays good. A room that is opened shows newcomers nothing that was said before.')
  readonly private?: boolean | null;
}

export class RoomsQuery {
  @Optional()
  @QueryWholeNumber(1, roomsPageMax)
  @Means('So many at most.', { default: roomsPage })
  readonly limit?: number;

  @Optional()
  @Uuid()
  @Means('Only rooms that are older than the room of this id: the last of the page before, even if it is deleted or hidden by now.')
  readonly before?: string;

  @Optional()
  @Text(0, nameMaxCharacters)
  @Means('Only rooms with this in their name, in whatever case.')
  readonly q?: string;

  @Optional()
  @OneOf(['me'])
  @Means('Only the rooms that the caller is a member of, with its role in each.')
  readonly member?: 'me';
}
