// cborg's own declarations cannot be reached through its "exports"; this is the part that cbor.ts uses.
declare module 'cborg' {
  export class Type {
    static readonly float: Type
  }
  export class Token {
    constructor(type: Type, value: unknown)
  }
  export function encode(
    value: unknown,
    options: { float64: boolean; typeEncoders: Record<string, (value: never) => Token> },
  ): Uint8Array
  export function decode(bytes: Uint8Array, options: Record<string, boolean>): unknown
}
