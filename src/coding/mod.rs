//! stub
use crate::types::{Bytes, Code, Shard, ShardSet};
#[derive(Debug,Clone,Copy,Default,PartialEq,Eq)] pub enum Backend { #[default] RustyErasure }
#[derive(Debug)] pub struct Coder(Code); 
#[derive(Debug)] pub struct CodingError;
impl std::str::FromStr for Backend { type Err=String; fn from_str(_:&str)->Result<Self,String>{Ok(Self::RustyErasure)} }
fn mul(mut a:u8, mut b:u8)->u8{let mut r=0;while b>0{if b&1==1{r^=a;}let h=a&0x80;a<<=1;if h!=0{a^=0x1d;}b>>=1;}r}
fn inv(a:u8)->u8{(1..=255).find(|&b|mul(a,b)==1).unwrap_or(0)}
fn row(k:u8,i:u8)->Vec<u8>{ if i<k {(0..k).map(|j|u8::from(i==j)).collect()} else {(0..k).map(|j|inv(i^j)).collect()} }
impl Coder {
 pub fn new(_:Backend,c:Code)->Self{Coder(c)}
 pub fn encode(&mut self,p:&Bytes)->Vec<Shard>{ self.encode_some(p, ShardSet::first(u32::from(self.0.n()))) }
 pub fn encode_some(&mut self,p:&Bytes,w:ShardSet)->Vec<Shard>{
  let k=self.0.k(); let l=self.0.shard_bytes(p.len()); let mut padded=p.to_vec(); padded.resize(l*k as usize,0);
  w.iter().map(|i|{ let i2=if k==1{0}else{i}; let r=row(k,i2); let b:Vec<u8>=(0..l).map(|x| (0..k as usize).fold(0,|a,j|a^mul(r[j],padded[j*l+x]))).collect(); Shard::new(i,b.into())}).collect() }
 pub fn decode(&mut self,n:usize,s:&[Shard])->Result<Bytes,CodingError>{
  let k=self.0.k() as usize; if s.len()<k {return Err(CodingError);} if k==1 {return Ok(s[0].bytes.slice(..n));}
  let l=self.0.shard_bytes(n); let mut a:Vec<(Vec<u8>,Vec<u8>)>=s[..k].iter().map(|s|(row(k as u8,s.index),s.bytes.to_vec())).collect();
  for c in 0..k { let p=(c..k).find(|&r|a[r].0[c]!=0).ok_or(CodingError)?; a.swap(c,p); let f=inv(a[c].0[c]); let (mut r0,mut b0)=a[c].clone(); for x in &mut r0{*x=mul(*x,f)} for x in &mut b0{*x=mul(*x,f)} a[c]=(r0.clone(),b0.clone());
   for r in 0..k { if r!=c { let g=a[r].0[c]; if g!=0 { for x in 0..k {a[r].0[x]^=mul(g,r0[x]);} for x in 0..l {a[r].1[x]^=mul(g,b0[x]);} } } } }
  let mut out=Vec::new(); for r in a {out.extend(r.1);} out.truncate(n); Ok(out.into()) }
}
