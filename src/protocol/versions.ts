/** Every version of the wire contract, newest first. A test compares the first hash with the schemas, codes and limits, sentences not counted. */
export interface ContractVersion {
  /** Semantic: a new major breaks clients, a new minor adds to what they know. */
  readonly version: string;
  readonly date: string;
  readonly hash: string;
  readonly changes: string;
}

export const contractVersions: readonly [ContractVersion, ...ContractVersion[]] = [
  {
    version: '1.2.0',
    date: '2026-11-25',
    hash: 'bc86469eb8e6d2d593ee39088970f18a2f95dcc3ab96c324bf234fe415b823bd',
    changes: 'A message_ack has an epoch where it is not the one that hello told.',
  },
  {
    version: '1.1.0',
    date: '2026-11-25',
    hash: '6611a551b43068f8f4089c2cfb72c136047b617830d60a120fa909cca2607c5f',
    changes:
      'The command join_rooms joins up to 100 rooms; the error of a join, and of a stream that ends, has room_id; a node may allow another number of rooms.',
  },
  {
    version: '1.0.0',
    date: '2026-11-25',
    hash: '2828abe81be9c4eb28dd97e31d22170c48b99de35c9b6b344d98b73784703fa0',
    changes: 'The first version that is written down.',
  },
];
