"""Normalises language tags to the one code that this project uses for each language.

Knows codes only. Region, script and variants are dropped: a model, a threshold or a metric belongs to a language.
"""

import re
from collections.abc import Iterable
from typing import Annotated

from pydantic import AfterValidator

from relevance.errors import ConfigError

UNKNOWN_LANGUAGE = "unk"

# ISO 639-1 codes, each followed by the codes that mean the same language: ISO 639-2 and 639-3, deprecated codes (`iw`,
# `mo`), the main language of a macrolanguage (`cmn`, `arb`: as Unicode CLDR), and country codes that shops write for
# the language, unless they are language codes themselves (`vn` in AnalytiCup, `jp`, `cn`, `cz`).
# `na` (Nauru) is left out: in tables it means "not available".
# fmt: off
_SAME = """
aa=aar ab=abk ae=ave af=afr ak=aka am=amh an=arg ar=ara=arb as=asm av=ava ay=aym=ayr az=aze=azj ba=bak be=bel bg=bul
bi=bis bm=bam bn=ben bo=bod=tib br=bre bs=bos ca=cat ce=che ch=cha co=cos cr=cre=cwd cs=ces=cze=cz cu=chu cv=chv
cy=cym=wel da=dan=dk de=deu=ger dv=div dz=dzo ee=ewe el=ell=gre=gr en=eng eo=epo es=spa et=est=ekk eu=eus=baq
fa=fas=per=pes=prs ff=ful=fuc=fuv fi=fin fj=fij fo=fao fr=fra=fre fy=fry ga=gle gd=gla gl=glg gn=grn=gug gu=guj gv=glv
ha=hau he=heb=iw hi=hin ho=hmo hr=hrv=scr ht=hat hu=hun hy=hye=arm hz=her ia=ina id=ind=in ie=ile ig=ibo ii=iii
ik=ipk=esk io=ido is=isl=ice it=ita iu=iku=ike ja=jpn=jap=jp jv=jav=jw ka=kat=geo kg=kon=kng ki=kik kj=kua kk=kaz
kl=kal km=khm kn=kan ko=kor kr=kau=knc ks=kas ku=kur=kmr kv=kom=kpv kw=cor ky=kir la=lat lb=ltz lg=lug li=lim ln=lin
lo=lao lt=lit lu=lub lv=lav=lvs mg=mlg=plt mh=mah mi=mri=mao mk=mkd=mac ml=mal mn=mon=khk mr=mar ms=msa=may=zsm mt=mlt
my=mya=bur nb=nob nd=nde ne=nep=npi ng=ndo nl=nld=dut nn=nno no=nor nr=nbl nv=nav ny=nya oc=oci oj=oji=ojg om=orm=gaz
or=ori=ory os=oss pa=pan pi=pli pl=pol ps=pus=pbu=pbt pt=por qu=que=quz=quy rm=roh rn=run ro=ron=rum=mo=mol ru=rus
rw=kin sa=san sc=srd=src sd=snd se=sme sg=sag si=sin sk=slk=slo sl=slv sm=smo sn=sna so=som sq=sqi=alb=als
sr=srp=scc=hbs=sh ss=ssw st=sot su=sun sv=swe sw=swa=swh ta=tam te=tel tg=tgk th=tha ti=tir tk=tuk tl=tgl tn=tsn to=ton
tr=tur ts=tso tt=tat tw=twi ty=tah ug=uig uk=ukr=ua ur=urd uz=uzb=uzn ve=ven vi=vie=vn vo=vol wa=wln wo=wol xh=xho
yi=yid=ji=ydd yo=yor za=zha=zyb zh=zho=chi=cmn=cn zu=zul
"""

# ISO 639-3 codes of languages without a code of two letters: those that Unicode CLDR or FLORES-200 name.
# `nan` (Min Nan) and `nil` are left out: in tables they mean "nothing". `mul`, `und` and `zxx` are no languages.
_FURTHER = """
ace ach acm acq ada ady aeb afh agq ain ajp akk akz ale aln alt ang ann anp apc arc arn aro arp arq ars arw ary arz asa
ase ast atj avk awa azb bal ban bar bas bax bbc bbj bej bem bew bez bfd bfq bgc bgn bho bik bin bjn bkm bla blo blt bpy
bqi bra brh brx bss bua bug bum byn byv cad car cay cch ccp cdo ceb cgg chb chg chk chm chn cho chp chr chy cic cjy ckb
clc cop cps crg crh crj crk crl crm crr crs csb csw dak dar dav del den dgr din diq dje doi dsb dtp dua dum dyo dyu dzg
ebu efi egl egy eka elx eml enm esu ewo ext fan fil fit fon frc frm fro frp frr frs fur gaa gag gan gay gba gbz gez gil
glk gmh goh gom gon gor got grb grc gsw guc gur guz gwi hai hak haw hax hif hil hit hmn hne hnj hsb hsn hup hur iba ibb
ikt ilo inh izh jam jbo jgo jmc jpr jrb jut kaa kab kac kaj kam kaw kbd kbl kbp kcg kde kea ken kfo kgp kha kho khq khw
kiu kkj kln kmb koi kok kos kpe krc kri krj krl kru ksb ksf ksh kum kut kwk kxv lad lag lah lam lez lfn lij lil liv lkt
lld lmo lol lou loz lrc lsm ltg lua lui lun luo lus luy lzh lzz mad maf mag mai mak man mas mde mdf mdr men mer mfe mga
mgh mgo mhr mic min mnc mni moe moh mos mrj mua mus mwl mwr mwv mye myv mzn nap naq nds new nia niu njo nmg nnh nog non
nov nqo nso nus nwc nym nyn nyo nzi ojb ojc ojs ojw oka osa ota pag pal pam pap pau pcd pcm pdc pdt peo pfl phn pis pms
pnb pnt pon pqm prg pro quc qug raj rap rar rgn rhg rif rof rom rtm rue rug rup rwk sad sah sam saq sas sat saz sba sbp
scn sco sdc sdh see seh sei sel ses sga sgs shi shn shu sid slh sli sly sma smj smn sms snk sog srn srr ssy stq str suk
sus sux swb syc syr szl taq tce tcy tem teo ter tet tgx tht tig tiv tkl tkr tlh tli tly tmh tog tok tpi tru trv trw tsd
tsi ttm ttt tum tvl twq tyv tzm udm uga umb vai vec vep vls vmf vmw vot vro vun wae wal war was wbp wuu xal xmf xnr xog
yao yap yav ybb yrl yue zap zbl zea zen zgh zun zza
"""
# fmt: on

_CODES = {code: group.partition("=")[0] for group in _SAME.split() for code in group.split("=")}
_CODES |= {code: code for code in _FURTHER.split()}

# Extended subtags of BCP 47 (`zh-yue`), which are languages. Other three letters may be a region (`ar-EGY`).
_EXTENDED = {
    "zh": frozenset(["cdo", "cjy", "gan", "hak", "hsn", "lzh", "wuu", "yue"]),
    "ar": frozenset(["acm", "acq", "aeb", "ajp", "apc", "arq", "ars", "ary", "arz"]),
}

# A tag of BCP 47, or a POSIX locale (`pt_BR.UTF-8`, `sr_RS@latin`).
_TAG = re.compile(
    r"(?P<language>[a-z]{2,3})(?:[-_](?P<second>[a-z0-9]{1,8}))?(?:[-_][a-z0-9]{1,8})*(?:[.@][a-z0-9.@=_-]*)?"
)


def normalize_language(tag: str | None) -> str:
    """Return the lower-case code of a tag's language; `unk` for no tag or an unknown language.

    Case, surrounding white space, region, script and variants do not matter: `pt-BR`, `PT_br` and `por` are `pt`,
    `zh-Hant-TW` is `zh`, `zh-yue` is `yue`, `iw` is `he`, `vn` is `vi`.
    """
    found = _TAG.fullmatch((tag or "").strip().lower())
    if found is None:
        return UNKNOWN_LANGUAGE
    code, second = _CODES.get(found["language"], UNKNOWN_LANGUAGE), found["second"]
    return second if second in _EXTENDED.get(code, ()) else code


def known_language(tag: str) -> str:
    """Return the code of a language that a user chose. Raises ValueError for an unknown language.

    Rows may have an unknown language; a choice may not, except `unk` itself, which means those rows.
    """
    code = normalize_language(tag)
    if code == UNKNOWN_LANGUAGE != tag.strip().lower():
        raise ValueError(
            f"{tag!r} is no known language; expected a code such as 'de' or 'pt-BR', or {UNKNOWN_LANGUAGE!r} for rows "
            "of unknown language"
        )
    return code


def chosen_languages(option: str, tags: Iterable[str]) -> tuple[str, ...]:
    """Return the codes of an option's languages, each once. Raises ConfigError that names the option and the tag."""
    try:
        return tuple(dict.fromkeys(map(known_language, tags)))
    except ValueError as error:
        raise ConfigError(f"{option}: {error}") from None


LanguageCode = Annotated[str, AfterValidator(known_language)]  # of a recipe or an options model
