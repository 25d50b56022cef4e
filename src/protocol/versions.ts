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
    version: '1.0.0',
    date: '2026-11-25',
    hash: '2828abe81be9c4eb28dd97e31d22170c48b99de35c9b6b344d98b73784703fa0',
    changes: 'The first version that is written down.',
  },
];
