// Tables and numbers for people.

/** Columns two spaces apart, the first row underlined; columns named in `right` are aligned to the right. */
export function table(rows: readonly (readonly string[])[], right: readonly number[] = []): string {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)))
  const line = (cells: readonly string[]) =>
    cells.map((cell, i) => (right.includes(i) ? cell.padStart(widths[i]) : cell.padEnd(widths[i]))).join('  ')
  const [head, ...body] = rows
  return [line(head), widths.map((width) => '-'.repeat(width)).join('  '), ...body.map(line)]
    .map((text) => text.trimEnd())
    .join('\n')
}

/** Named values, one a line, aligned. */
export function listing(entries: readonly (readonly [name: string, value: string])[]): string {
  const width = Math.max(...entries.map(([name]) => name.length))
  return entries.map(([name, value]) => `  ${name.padEnd(width)}  ${value}`.trimEnd()).join('\n')
}

/** A share from 0 to 1 as a percentage with one decimal. */
export function percent(share: number): string {
  return `${(share * 100).toFixed(1)} %`
}

/** 1234567 as 1,234,567; also for bigint. */
export function grouped(value: number | bigint): string {
  return value.toLocaleString('en-US')
}

/** The beginning of a digest. */
export function short(digest: string): string {
  return `${digest.slice(0, 16)}...`
}
