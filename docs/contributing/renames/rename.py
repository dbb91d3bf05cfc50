#!/usr/bin/env python3
"""Compiler-driven renames. usage: rename.py ROOT TSV... ; cargo env is inherited.
Phase 1 renames the definitions (and unique names by word), phase 2 fixes what the compiler no longer resolves."""
import sys, os, re, json, subprocess, collections
root=sys.argv[1]; tsvs=[a for a in sys.argv[2:] if not a.startswith('--')]; flags=[a for a in sys.argv[2:] if a.startswith('--')]
os.chdir(root); os.makedirs('target',exist_ok=True)
def rs_files():
    out=subprocess.run(['git','ls-files','*.rs'],capture_output=True,text=True).stdout.split()
    return [f for f in out if os.path.exists(f)]
def read(f):
    with open(f,encoding='utf8') as h: return h.read()
def write(f,s):
    with open(f,'w',encoding='utf8') as h: h.write(s)
DEPS={'host/manifest':[], 'host/query':[], 'host/egress':['host/manifest'], 'host/store':['host/manifest','host/query'], 'host/sandbox':['host/egress','host/manifest'],
'host/platform':['host/manifest','host/query','host/egress','host/store','host/sandbox'],'guest-sdk/macros':[], 'guest-sdk':['guest-sdk/macros'],'examples/vendor':[], 'tests/guests':['guest-sdk'],'tests/commands':[],'xtask':[]}
DEPS['host/api']=DEPS['host/platform']+['host/platform','tests','examples/vendor']
DEPS['host/cli']=DEPS['host/platform']+['host/platform','host/api']
DEPS['tests']=DEPS['host/cli']+['guest-sdk','host/cli','examples/vendor','xtask']
for k in ('host/egress','host/store','host/sandbox','host/platform','host/manifest'): DEPS[k]=DEPS[k]+['tests','examples/vendor']
for k in ('examples/bank101','examples/carddav','examples/plain101'): DEPS[k]=['guest-sdk','examples/vendor']
CR=sorted(DEPS,key=len,reverse=True)
def crate(f):
    for c in CR:
        if f.startswith(c+'/'): return c
    return ''
def visible(f,r):
    a,b=crate(f),crate(r['file'])
    if a==b:
        # tests folders of a crate do not see each other, src is seen
        return '/src/' in r['file'] or os.path.dirname(r['file']).startswith(os.path.dirname(f)) or os.path.dirname(f).startswith(os.path.dirname(r['file'])) or common(f,r['file'])>=3
    return b in DEPS.get(a,[]) and '/src/' in r['file']
def common(a,b):
    n=0
    for x,y in zip(a.split('/'),b.split('/')):
        if x!=y: break
        n+=1
    return n
rows=[]
for t in tsvs:
    for line in read(t).splitlines():
        p=line.split('\t')
        if len(p)<4 or p[0] in('kind','') or line.startswith('#'): continue
        kind,file,old,new=p[:4]
        rows.append(dict(kind=kind.strip(),file=file.strip(),old=old.strip().rstrip('()'),new=new.strip().rstrip('()'),note=p[4] if len(p)>4 else ''))
state='target/renames.json'
log=open('target/renames.log','a')
def say(*a):
    print(*a); print(*a,file=log,flush=True)
cands=collections.defaultdict(list) # bare old -> rows
fail=[]
if '--resume' in flags:
    for k,v in json.load(open(state)).items(): cands[k]=v
else:
    allsrc={f:read(f) for f in rs_files()}
    words=collections.Counter()
    defs=collections.Counter()
    for s in allsrc.values():
        words.update(re.findall(r'\b[A-Za-z_][A-Za-z0-9_]*\b',s))
        for m in re.finditer(r'\b(?:struct|enum|trait|type|fn|const|static|mod|union|macro_rules!)\s+([A-Za-z_][A-Za-z0-9_]*)',s): defs[m.group(1)]+=1
    moved={}
    # members first (they name the old type), then types, modules at the end
    order={'field':0,'variant':1,'method':2,'fn':3,'const':4,'static':4,'type':5,'trait':5,'mod':6,'local-mod':6}
    for r in sorted([r for r in rows if r['kind'] in order],key=lambda r:order[r['kind']]):
        old=r['old']; owner=None
        if '::' in old: owner,old=old.rsplit('::',1); owner=owner.split('::')[-1]; owner=re.sub(r'<.*','',owner)
        r['bare']=old; r['owner']=owner
        f=r['file']
        if r['kind'] in('mod','local-mod'): continue
        if not os.path.exists(f): say('NOFILE',r); fail.append(r); continue
        s=read(f); k=r['kind']; new=r['new']
        if k in('type','trait'):
            pat=r'\b((?:struct|enum|trait|type|union)\s+)'+old+r'\b'
        elif k in('fn','method'):
            pat=r'\b(fn\s+)(?:r#)?'+old+r'\b(?=\s*[<(])'
        elif k in('const','static'):
            pat=r'\b((?:const|static)\s+(?:mut\s+)?)'+old+r'\b'
        elif k in('variant','field'):
            # within the body of the owner's definition
            m=re.search(r'\b(?:struct|enum)\s+'+re.escape(owner or '')+r'\b[^;{]*\{',s) if owner else None
            if not m: say('NOOWNER',k,f,r['old']); fail.append(r); continue
            d=1;i=m.end()
            while d and i<len(s):
                d+= (s[i]=='{')-(s[i]=='}'); i+=1
            body=s[m.end():i]
            head=s[max(0,m.start()-400):m.start()]
            derive=head.split('}')[-1]
            if k=='field': pat2=r'(^\s*(?:pub(?:\([a-z ]+\))?\s+)?)'+old+r'(?=\s*:)'
            else: pat2=r'(^\s*(?:#\[[^\]]*\]\s*)*)'+old+r'\b(?=\s*[,({=]|\s*$)'
            attr=''
            if re.search(r'\b(ValueEnum|Subcommand|Args|Parser|Error)\b',derive) and k=='field' and re.search(r'\b(Args|Parser)\b',derive):
                say('CLAP',k,f,r['old'],'->',new); fail.append(r); continue
            if re.search(r'\b(ValueEnum|Subcommand|Parser)\b',derive):
                say('CLAP',k,f,r['old'],'->',new); fail.append(r); continue
            if re.search(r'(Serialize|Deserialize|JsonSchema)',derive):
                mm=re.search(pat2,body,flags=re.M)
                if not mm: say('NOMEMBER',k,f,r['old']); fail.append(r); continue
                before=body[:mm.start()].rstrip().splitlines()
                pre=''
                while before and re.match(r'\s*(#\[|//)',before[-1]): pre=before.pop()+'\n'+pre
                pre+=mm.group(1)
                if not re.search(r'rename|flatten|serde\(skip|transparent',pre) and 'serde(transparent' not in derive and 'serde(untagged' not in derive:
                    ra=re.search(r'rename_all\s*=\s*"([^"]+)"',derive)
                    style=ra.group(1) if ra else None
                    w=re.findall(r'[A-Z]?[a-z0-9]+|[A-Z]+',old) if k=='variant' else old.split('_')
                    w=[x.lower() for x in w]
                    wire={None:old,'snake_case':'_'.join(w),'kebab-case':'-'.join(w),'camelCase':w[0]+''.join(x.title() for x in w[1:]),'lowercase':''.join(w),'UPPERCASE':''.join(w).upper(),'SCREAMING_SNAKE_CASE':'_'.join(w).upper(),'PascalCase':''.join(x.title() for x in w)}.get(style)
                    if wire is None: say('STYLE',style,r); fail.append(r); continue
                    attr='#[serde(rename = "%s")] '%wire
            nb,n=re.subn(pat2,lambda m:(m.group(1)+new if not attr else re.match(r'^\s*',m.group(1)).group(0)+attr+m.group(1).lstrip()+new),body,count=1,flags=re.M)
            if not n: say('NOMEMBER',k,f,r['old']); fail.append(r); continue
            s=s[:m.end()]+nb+s[i:]; write(f,s); cands[old].append(r); continue
        if k=='method' and owner:
            # inside impl blocks (or trait) of owner only, if several defs in the file
            ms=list(re.finditer(pat,s))
            if len(ms)>1:
                keep=[]
                for m in ms:
                    heads=list(re.finditer(r'^(?:\s*)(?:unsafe )?(?:pub(?:\([a-z]+\))?\s+)?(?:impl|trait)\b[^{]*\{',s[:m.start()],flags=re.M))
                    if heads and re.search(r'\b'+re.escape(owner)+r'\b',heads[-1].group(0)): keep.append(m)
                ms=keep
            if not ms: say('NODEF',k,f,r['old']); fail.append(r); continue
            for m in reversed(ms): 
                a=m.start()+len(m.group(1)); e=m.end(); s=s[:a]+new+s[e:]
            write(f,s); cands[old].append(r)
        else:
            ms=list(re.finditer(pat,s))
            if len(ms)>1:
                top=[m for m in ms if re.fullmatch(r'(?:pub(?:\([^)]*\))?\s+)?(?:async\s+|const\s+|unsafe\s+)*',s[s.rfind('\n',0,m.start())+1:m.start()])]
                if top: ms=top
            ns=s;n=len(ms)
            for m in reversed(ms):
                a=m.start()+len(m.group(1)); ns=ns[:a]+new+ns[m.end():]
            if not n: say('NODEF',k,f,r['old']); fail.append(r); continue
            write(f,ns); cands[old].append(r)
        if new==old: continue
    # unique names by word, everywhere (comments too)
    byword={}
    for old,rs in cands.items():
        r=rs[0]
        if len(rs)!=1: continue
        if r['kind'] in('type','trait','const','static') and any(re.search(r'^\s+'+old+r'\s*[,({]|\b(?:sha2|axum|http|hyper|tokio|wit|bindings|clap|serde_json|wasmtime\w*|chrono|std|url|cap_std|sled|tower\w*|aide|gix\w*|exports)::(?:[\w:]*)(?:\{[^}]*\b)?'+old+r'\b',s,flags=re.M) for s in allsrc.values()): continue
        if r['kind'] in('type','trait','const','static') and defs[old]==1 and (old.isupper() or (len(old)>5 and old not in('Result','String','Option','Error','Request','Response','Instant','Duration','Display','Future','Stream','Service','Method','Uri'))):
            byword[old]=r['new']
        if r['kind'] in('fn','method') and defs[old]==1 and '_' in old:
            # not used as a field or local
            if not any(re.search(r'\b(?:let|mut|ref|pub)\s+(?:mut\s+)?'+old+r'\b|\b'+old+r'\s*:(?!:)',s) for s in allsrc.values()): byword[old]=r['new']
    for f in rs_files():
        s=read(f); n=s
        def rep(m):
            o=m.group(0)
            return byword[o] if visible(f,cands[o][0]) else o
        if byword:
            n=re.sub(r'\b(?:'+'|'.join(sorted(map(re.escape,byword),key=len,reverse=True))+r')\b',rep,s)
        if n!=s: write(f,n)
    say('by word:',len(byword),'by compiler:',len(cands)-len(byword))
    # comments of the others in backticks
    for old,rs in cands.items():
        if old in byword or rs[0]['kind'] not in('type','trait','const','variant'): continue
        for r in rs:
            d=os.path.dirname(r['file'])
            for f in rs_files():
                if f.startswith(d):
                    s=read(f)
                    n=re.sub(r'(//[/!]?[^\n]*`[^`\n]*)\b'+old+r'\b(?=[^`\n]*`)',lambda m:m.group(1)+r['new'],s)
                    if n!=s: write(f,n)
    # modules
    modmap=[]
    for r in sorted([r for r in rows if r['kind'] in('mod','local-mod')],key=lambda r:-(r['file'].removesuffix('/mod.rs').count('/'))):
        if r['kind'] not in('mod','local-mod'): continue
        f=r['file']; old=r['old'].split('::')[-1]; new=r['new']; r['bare']=old;r['owner']=None
        new=new.removesuffix('.rs'); old=old.removesuffix('.rs'); r['bare']=old; r['new']=new
        if not os.path.exists(f): say('NOFILE',r); fail.append(r); continue
        if os.path.basename(f)=='mod.rs': src=os.path.dirname(f); dst=os.path.join(os.path.dirname(src),new); parent=os.path.dirname(src)
        else: src=f; dst=os.path.join(os.path.dirname(f),new+'.rs'); parent=os.path.dirname(f)
        decl=[p for p in (parent+'/mod.rs',parent+'/lib.rs',parent+'/main.rs',parent+'.rs') if os.path.exists(p) and re.search(r'\bmod\s+'+old+r'\s*;',read(p))]
        if not decl: say('NOMOD',f,old); fail.append(r); continue
        if os.path.exists(dst): say('EXISTS',dst); fail.append(r); continue
        subprocess.run(['git','mv',src,dst],check=True)
        if os.path.basename(f)!='mod.rs' and os.path.isdir(f[:-3]): subprocess.run(['git','mv',f[:-3],dst[:-3]],check=True)
        modmap.append((src.removesuffix('.rs'),dst.removesuffix('.rs')))
        s=read(decl[0]); s=re.sub(r'\bmod\s+'+old+r'\s*;','mod '+new+';',s)
        s=re.sub(r'\b(use\s+(?:self::)?)'+old+r'::',lambda m:m.group(1)+new+'::',s); write(decl[0],s)
        cands[old].append(r)
    for rs in cands.values():
        for r in rs:
            p=r['file']
            for a,b in modmap:
                if p==a+'.rs' or p.startswith(a+'/'): p=b+p[len(a):]
            r['file']=p
    json.dump(cands,open(state,'w'))
    json.dump(fail,open('target/renames-failed.json','w'),indent=1)
if '--defs' in flags: sys.exit()
def choose(old,f,msg,code,after=''):
    rs=cands.get(old)
    if not rs: return None
    kinds=None
    if code in('E0609','E0560','E0026','E0027','E0610','E0615','E0559'): kinds={'field'}
    if code=='E0425' and 'value' in msg: kinds={'const','static','fn','variant','type','field'}
    if code=='E0425' and 'function' in msg: kinds={'fn','type','variant'}
    if code in('E0412','E0405','E0404','E0422'): kinds={'type','trait'}
    if code=='E0615': kinds={'field','method'}
    if 'no method named' in msg: kinds={'method','fn'}
    if 'no variant' in msg: kinds={'variant','method','fn','const'}
    if 'no function or associated' in msg or 'no associated' in msg: kinds={'method','fn','const'}
    if code in('E0432','E0433'): kinds={'mod','local-mod','type','trait','fn','const','static','variant'}
    if code in('E0432','E0433') and after.startswith('::') and old.islower(): kinds={'mod','local-mod'}
    c=[r for r in rs if (kinds is None or r['kind'] in kinds) and visible(f,r)]
    if not c: return None
    owners=re.findall(r'`([^`]*)`',msg)
    o=[r for r in c if r.get('owner') and any(re.search(r'\b'+re.escape(r['owner'])+r'\b',x) or any(re.search(r'\b'+re.escape(t)+r'\b',x) for t in newtype.get(r['owner'],())) for x in owners[1:] or owners)]
    if o: c=o
    if len(c)==1: return c[0]['new']
    src=read(f); words=set(re.findall(r'\w+',src))
    path=set(re.findall(r'\w+',' '.join(owners))) if len(rs)>1 else set()
    def score(r):
        segs=set(re.findall(r'\w+',r['file'].replace('/src/','/')))
        return (4*(r['kind'] in('type','trait','const','fn') and r['new'] in words and len(r['new'])>6)+5*len(segs&path-{'host','src','rs'})+common(r['file'],f))
    c.sort(key=lambda r:-score(r))
    return c[0]['new']
newtype=collections.defaultdict(set)
for rs in cands.values():
    for r in rs:
        if r['kind'] in('type','trait'): newtype[r['bare']].add(r['new'])
newmap=collections.defaultdict(set)
for o,rs in cands.items():
    for r in rs: newmap[r['new']].add(o)
undone={}; noforward=set()
args=['cargo','check','--workspace','--all-targets','--locked','--keep-going','--message-format=json','-q']
last=None
for round in range(60):
    p=subprocess.run(args,capture_output=True,text=True)
    edits={}; unresolved=[]; errors=0
    for line in p.stdout.splitlines():
        try: m=json.loads(line)
        except Exception: continue
        if m.get('reason')!='compiler-message': continue
        m=m['message']
        if m['level']!='error': continue
        errors+=1
        code=(m.get('code') or {}).get('code') or ''
        done=False
        if code not in ('E0432','E0433','E0425','E0412','E0599','E0560','E0609','E0559','E0026','E0422','E0405','E0407','E0437','E0438','E0404','E0531','E0532','E0574','E0573','E0615','E0610','E0423','E0424','E0583'):
            unresolved.append((code,m['message'],[(s['file_name'],s['line_start']) for s in m['spans'] if s['is_primary']])); continue
        def spans(sp):
            while sp:
                yield sp
                sp=(sp.get('expansion') or {}).get('span')
        for sp0 in [s for s in m['spans'] if s['is_primary']]:
            for sp in spans(sp0):
                f=sp['file_name']
                if f.startswith('/') or not os.path.exists(f): continue
                b=open(f,'rb').read()[sp['byte_start']:sp['byte_end']]
                try: text=b.decode()
                except Exception: continue
                hit=None; new=None
                msgw=re.findall(r'`([A-Za-z_][A-Za-z0-9_]*)`',m['message'])
                for w in [text]+msgw+list(reversed(re.findall(r'\b[A-Za-z_][A-Za-z0-9_]*\b',text)[:12])):
                    if w in cands and re.search(r'\b'+re.escape(w)+r'\b',text) and (f,w) not in noforward:
                        new=choose(w,f,m['message']+' '+(sp.get('label') or ''),code,open(f,'rb').read()[sp['byte_end']:sp['byte_end']+2].decode(errors='ignore'))
                        if new and new!=w: hit=w;break
                if not hit:
                    w=text if text in newmap else next((x for x in msgw if x in newmap and text==x),None)
                    if w and len(newmap[w])==1 and code in('E0432','E0433','E0425','E0412','E0599','E0560','E0609','E0559','E0026','E0422','E0405') and not (code=='E0433' and not w[0].isupper()):
                        o=next(iter(newmap[w]))
                        if undone.get((f,w),round)==round:
                            undone[(f,w)]=round; noforward.add((f,o))
                            edits.setdefault(f,{})[(sp['byte_start'],sp['byte_end'])]=o; say('UNDO',f,sp['line_start'],w,'->',o); done=True
                        break
                    continue
                if code in('E0407','E0437'): mm=re.search(r'\bfn\s+('+hit+r')\b',text)
                else: mm=re.search(r'\b('+re.escape(hit)+r')\b',text)
                if not mm: continue
                a=sp['byte_start']+len(text[:mm.start(1)].encode()); e=a+len(hit.encode())
                rep=new
                if code in('E0560','E0026','E0559'):
                    rest=open(f,'rb').read()[e:e+40].decode(errors='ignore').lstrip()
                    if not rest.startswith(':') or rest.startswith('::'): rep=new+': '+hit
                edits.setdefault(f,{})[(a,e)]=rep; done=True; break
        if not done: unresolved.append((code,m['message'],[(s['file_name'],s['line_start']) for s in m['spans'] if s['is_primary']]))
    n=sum(len(v) for v in edits.values())
    say('round',round,'errors',errors,'edits',n,'unresolved',len(unresolved))
    for f,e in edits.items():
        b=open(f,'rb').read()
        for (a,z),rep in sorted(e.items(),reverse=True): b=b[:a]+rep.encode()+b[z:]
        open(f,'wb').write(b)
    if n==0:
        for u in unresolved[:80]: say(u)
        break
