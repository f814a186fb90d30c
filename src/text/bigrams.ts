/**
 * How likely an English letter follows another, for telling ciphered or reversed English from what it looks
 * like. Counted over the licences of Debian, the READMEs of npm packages and this project's own pages (688,173
 * pairs, smoothed); each character is 35 + 2 log2 P(column | row) in base 36. Rows and columns are a..z and
 * then "no letter".
 */
const ROWS = `epqpdkodpfmspucoftrunnjhofs shggubeirpgugdrjbsoitdbbsbq scnbuebtqepqgbvgepltqbbbkbp
qigovgkdtejljfrhblofohfblbx pjqrnnlgledooshmltspgnkomdw rbfcrpcctbcmdcvfbshqqbebobw
rcgeugnrrbboiqomcsniqebbhgw tecdxdbbtbdgjhsfbmjpkddckbt opsopqpcfdiqputndottgobibkn
teeewgeengegeesieevesepeeen rjhiwfghreelcplgchsimcgckcw rjhpukgdubftfkrjbipppkicrbu
uoijvdhcseckpgssecqfpfcbibt pfqtrmseogjlimrkcettnmecoev jmnqksmgkiloqumqbuoqsopjges
tffiudhlrbesmgsrbunrqheepbq eheheeeejeeeneeekeeeezjeeeeo sinnvklesbolpnsjboqpnlibpbv
odoiuhdorbkkigqpffptpdjdlbx qdldtffvtbdmefsjbqqnmbmbocv oqqoqjnbpberrsfpbtttccbddet
tdebybdeubbebeobbbkbfbbbdbo tdbgsbduvcgkbptdbppiebibdbs thshskhlqdhdlhkudghvhdfjrdu
kgedmffcnfbjhmuqboqmfcgbehy vgggwggotggmggrjggkjogggmjs tprppqnnrkkppprqgprtomqhnea`.split(/\s/);

/** Index of what is no letter. */
export const NO_LETTER = 26;

/** 0..25 for an ASCII letter of either case, else NO_LETTER; by UTF-16 unit. */
export const letterOf = new Uint8Array(0x10000).fill(NO_LETTER);
for (let i = 0; i < 26; i++) {
  letterOf[97 + i] = i;
  letterOf[65 + i] = i;
}

/** How likely a pair of letters is in English, in half bits; more is likelier. */
export function pairScore(first: number, second: number): number {
  return Number.parseInt(ROWS[first]![second]!, 36);
}

const turn = (letter: number): number => (letter === NO_LETTER ? letter : (letter + 13) % 26);

const SHIFT = 16;

/**
 * How much likelier a pair is English once turned by 13 letters, and when read backwards, in half bits: both in one
 * number, so that both are summed by one addition. At [first << 5 | second]; sums of up to 500 pairs fit.
 */
export const pairGain = new Int32Array(32 * 32);
for (let first = 0; first < 27; first++) {
  for (let second = 0; second < 27; second++) {
    const turned = pairScore(turn(first), turn(second)) - pairScore(first, second);
    const back = pairScore(second, first) - pairScore(first, second);
    pairGain[(first << 5) | second] = turned * (1 << SHIFT) + back;
  }
}

/** The two parts of a sum of `pairGain`. */
export function reversedOf(sum: number): number {
  return (sum << SHIFT) >> SHIFT;
}
export function rot13Of(sum: number): number {
  return (sum - reversedOf(sum)) >> SHIFT;
}
