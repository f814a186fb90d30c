/**
 * Letters that look like ASCII letters, as data. Two kinds: styled forms that nobody writes a language with
 * (mathematical, circled, small capitals, turned letters), which always count as the ASCII letter, and letters of
 * other scripts, which do so only where a word mixes scripts (see fold.ts), so that Russian, Greek or Armenian
 * text stays what it is. Chosen by hand after Unicode's confusables (UTS 39) and the alphabets of "fancy text"
 * generators; what NFKC maps by itself is not repeated here.
 */

/** Scripts of letters that can stand in for Latin ones. 0: no letter of any of them. */
export const LATIN = 1;
export const CYRILLIC = 2;
export const GREEK = 4;
export const ARMENIAN = 8;
export const CHEROKEE = 16;
/** Canadian syllabics, Lisu, Coptic, Deseret: nothing but look-alikes is seen of them in practice. */
export const RARE = 32;
/** Scripts whose words are left alone whatever they mix with. */
export const OTHER = 64;

export const SCRIPTS: readonly (readonly [script: number, from: number, to: number])[] = [
  [LATIN, 0x41, 0x5a],
  [LATIN, 0x61, 0x7a],
  [LATIN, 0xc0, 0xd6],
  [LATIN, 0xd8, 0xf6],
  [LATIN, 0xf8, 0x2af],
  [LATIN, 0x1d00, 0x1d25],
  [LATIN, 0x1d6b, 0x1d77],
  [LATIN, 0x1d79, 0x1dbf],
  [LATIN, 0x1e00, 0x1eff],
  [LATIN, 0xa722, 0xa7ff],
  [GREEK, 0x370, 0x3ff],
  [GREEK, 0x1f00, 0x1fff],
  [CYRILLIC, 0x400, 0x52f],
  [CYRILLIC, 0x1c80, 0x1c8f],
  [CYRILLIC, 0xa640, 0xa69f],
  [ARMENIAN, 0x531, 0x587],
  [CHEROKEE, 0x13a0, 0x13fd],
  [CHEROKEE, 0xab70, 0xabbf],
  [RARE, 0x1400, 0x167f],
  [RARE, 0xa4d0, 0xa4ff],
  [RARE, 0x2c80, 0x2cff],
  [OTHER, 0x590, 0x10ff],
  [OTHER, 0x1100, 0x139f],
  [OTHER, 0x1680, 0x1c7f],
  [OTHER, 0x3040, 0x9fff],
  [OTHER, 0xa000, 0xa4cf],
  [OTHER, 0xac00, 0xd7ff],
];

/** Pairs "look-alike ASCII"; counted only in words of mixed script, or of look-alikes alone beside Latin ones. */
export const LOOK_ALIKES = `
аa вb сc еe ёe гr һh нh іi їi јj кk қk ӏl мm оo рp ԛq гr ѕs тt υu ѵv ѡw ԝw хx ҳx уy үy ұy ԁd ғf пn ҏp иu цu шw щw ьb ъb яr зz ӕa эe ңh ҫc ҽe ԍg
АA ВB СC ЕE ЁE НH ІI ЇI ЈJ КK ҚK МM ОO РP ԚQ ЅS ТT ԜW ХX ҲX УY ҮY ЗZ ЬB ЯR ИN ҪC Ӏl
αa βb ςs ϲc δd εe ϝf ηn ιi ϳj κk λl μu νv οo πn ρp σo τt υu ωw χx γy ζz
ΑA ΒB ΕE ΖZ ΗH ΙI ΚK ΜM ΝN ΟO ΡP ΤT ΥY ΧX ΣE ϹC ͿJ
աw զq հh յj ոn ռn սu օo ցg քp դn ղn եt էt լl վl տs ևu ՏS ՍU ՕO ԼL ՀZ ԵE ԱU
ᎠD ᎡR ᎢT ᎥI ᎩY ᎪA ᎫJ ᎬE ᎳW ᎷM ᎻH ᎽY ᎾO ᏀG ᏃZ ᏆI ᏌU ᏏB ᏒR ᏔW ᏕS ᏙV ᏚS ᏞL ᏟC ᏢP ᏦK ᏧD ᏮG ᏴB ᎮF ᏁN ᏂH ᏖT ᏇM ᏡP ꭺa ꮃw ꮇm ꮋh ꮎo ꮐg ꮓz ꮢr ꮪs ꮮl ꮯc ꮲp ꮶk ꭲt ꭰd ꭱr ꭼe ꮩv ꮤw ꭵi ꮍy ꮟb
ᗩA ᗷB ᑕC ᗪD ᗴE ᕮE ᖴF ᘜG ᕼH ᒍJ ᒎJ ᒪL ᗰM ᑎN ᑭP ᑫQ ᖇR ᖆR ᔕS ᑌU ᐯV ᗯW ᙭X ᘔZ ᑯd ᑲb ᐃA ᗅA ᕵP ᖷF ᑐC
ꓐB ꓑP ꓒd ꓓD ꓔT ꓖG ꓗK ꓙJ ꓚC ꓜZ ꓝF ꓞF ꓟM ꓠN ꓡL ꓢS ꓣR ꓤR ꓦV ꓧA ꓨG ꓩL ꓪW ꓫX ꓬY ꓮA ꓯA ꓰE ꓱE ꓲI ꓳO ꓴU ꓵU ꓶL ꓷD
ⲁa ⲃb ⲅr ⲉe ⲏh ⲓi ⲕk ⲙm ⲛn ⲟo ⲣp ⲥc ⲧt ⲩu ⲭx ⲱw ⲀA ⲂB ⲈE ⲎH ⲒI ⲔK ⲘM ⲚN ⲞO ⲢP ⲤC ⲦT ⲨY ⲬX
`.trim();

/** Pairs that always count as the ASCII letter: no language is written with them, or with a stroke or a dot alone. */
export const STYLED = `
ᴀa ʙb ᴄc ᴅd ᴇe ꜰf ɢg ʜh ɪi ᴊj ᴋk ʟl ᴍm ɴn ᴏo ᴘp ǫq ꞯq ʀr ꜱs ᴛt ᴜu ᴠv ᴡw ʏy ᴢz
ɑa ɐa ɓb ɔc ɕc ɖd ɗd ǝe ɘe ɛe ɜe ɟf ɡg ɠg ƃg ɥh ɦh ɩi ıi ᴉi ȷj ɾj ʝj ʞk ɭl ɫl łl ŁL ɯm ɱm ɲn ɳn ɵo øo ØO ʠq ɹr ɽr ɼr ʂs ʇt ʈt ŧt ʊu ʋv ʌv ʍw ʎy ʐz ʑz ƶz đd ĐD ħh ĦH ƒf ƙk ƥp ƭt ƴy ɍr ɇe ɨi ʉu ŋn
℮e
`.trim();
