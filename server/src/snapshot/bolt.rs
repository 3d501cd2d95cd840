//! Writes a file in bbolt's format from sorted entries, in one pass and with full pages. Called by [`super::file`] alone; it knows
//! pages and buckets and nothing of what they hold. It never reads a bbolt file.
//!
//! ```text
//! page 0, 1  meta, both alike but for the transaction id
//! page 2     an empty freelist
//! page 3..   for each bucket: its leaves in key order, then its branches level by level up to its root
//! last       the leaf of the root bucket: name -> {root page, sequence}
//! ```
//! Layout of pages, elements and metas: bbolt's `internal/common` (`page.go`, `meta.go`, `bucket.go`).

use std::io::{self, Seek, SeekFrom, Write};

const PAGE_BYTES: usize = 4096;
const PAGE_HEADER_BYTES: usize = 16;
const ELEMENT_BYTES: usize = 16;

const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const FREELIST: u16 = 0x10;
/// Flag of a leaf element whose value is a bucket's header.
const BUCKET_ELEMENT: u32 = 0x01;

const MAGIC: u32 = 0xED0C_DAED;
const VERSION: u32 = 2;
const FREELIST_PAGE: u64 = 2;
const FIRST_DATA_PAGE: u64 = 3;

/// A bbolt file under construction.
pub struct Writer<W> {
    out: W,
    next_page: u64,
    buckets: Vec<(Vec<u8>, u64)>,
}

impl<W: Write + Seek> Writer<W> {
    /// Starts a file in `out`, which must be empty.
    ///
    /// # Errors
    /// What writing to `out` failed with.
    pub fn create(mut out: W) -> io::Result<Self> {
        out.seek(SeekFrom::Start(FIRST_DATA_PAGE * PAGE_BYTES as u64))?;
        Ok(Self {
            out,
            next_page: FIRST_DATA_PAGE,
            buckets: Vec::new(),
        })
    }

    /// Writes one bucket whole. `entries` come in ascending key order without repeats; buckets in ascending order of their names.
    ///
    /// # Errors
    /// What `entries` or writing failed with; the file is then of no use.
    pub fn bucket<K, V>(
        &mut self,
        name: &str,
        entries: impl Iterator<Item = io::Result<(K, V)>>,
    ) -> io::Result<()>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        debug_assert!(
            self.buckets
                .last()
                .is_none_or(|(last, _)| last.as_slice() < name.as_bytes())
        );
        let mut leaf = Leaf::default();
        let mut children = Vec::new();
        for entry in entries {
            let (key, value) = entry?;
            let (key, value) = (key.as_ref(), value.as_ref());
            if !leaf.has_room(key, value) {
                children.push(self.leaf(&mut leaf)?);
            }
            leaf.push(0, key, value);
        }
        if leaf.count > 0 || children.is_empty() {
            children.push(self.leaf(&mut leaf)?);
        }
        let root = self.branches(children)?;
        self.buckets.push((name.as_bytes().to_vec(), root));
        Ok(())
    }

    /// Writes the root bucket, the freelist and the metas. Returns the file's length in bytes, a multiple of the page size.
    ///
    /// # Errors
    /// What writing failed with; the file is then of no use.
    pub fn finish(mut self) -> io::Result<u64> {
        let mut leaf = Leaf::default();
        let mut children = Vec::new();
        for (name, root) in std::mem::take(&mut self.buckets) {
            let header = bucket_header(root);
            if !leaf.has_room(&name, &header) {
                children.push(self.leaf(&mut leaf)?);
            }
            leaf.push(BUCKET_ELEMENT, &name, &header);
        }
        children.push(self.leaf(&mut leaf)?);
        let root = self.branches(children)?;
        let pages = self.next_page;
        self.out.seek(SeekFrom::Start(0))?;
        self.out.write_all(&meta_page(0, root, pages))?;
        self.out.write_all(&meta_page(1, root, pages))?;
        let mut freelist = page_header(FREELIST_PAGE, FREELIST, 0, 0).to_vec();
        freelist.resize(PAGE_BYTES, 0);
        self.out.write_all(&freelist)?;
        self.out.flush()?;
        Ok(pages * PAGE_BYTES as u64)
    }

    /// Writes the gathered leaf and empties it; returns its first key and page.
    fn leaf(&mut self, leaf: &mut Leaf) -> io::Result<(Vec<u8>, u64)> {
        let elements_bytes = leaf.elements.len();
        let mut body = Vec::with_capacity(elements_bytes + leaf.data.len());
        for (at, element) in leaf.elements.chunks_exact(ELEMENT_BYTES).enumerate() {
            // An element's position counts from the element itself.
            let data_at = u32_le(&element[4..8]) as usize + elements_bytes - at * ELEMENT_BYTES;
            body.extend_from_slice(&element[..4]);
            body.extend_from_slice(&(data_at as u32).to_le_bytes());
            body.extend_from_slice(&element[8..]);
        }
        body.extend_from_slice(&leaf.data);
        let page = self.page(LEAF, leaf.count, &body)?;
        let first_key = std::mem::take(&mut leaf.first_key);
        *leaf = Leaf::default();
        Ok((first_key, page))
    }

    /// Writes the branch levels above `children` and returns the root's page.
    fn branches(&mut self, mut children: Vec<(Vec<u8>, u64)>) -> io::Result<u64> {
        while children.len() > 1 {
            let mut parents = Vec::new();
            let mut rest = children.as_slice();
            while !rest.is_empty() {
                let (now, later) = rest.split_at(fitting(rest));
                parents.push((now[0].0.clone(), self.branch(now)?));
                rest = later;
            }
            children = parents;
        }
        Ok(children[0].1)
    }

    fn branch(&mut self, children: &[(Vec<u8>, u64)]) -> io::Result<u64> {
        let mut body = Vec::with_capacity(PAGE_BYTES);
        let mut data_at = children.len() * ELEMENT_BYTES;
        for (at, (key, page)) in children.iter().enumerate() {
            body.extend_from_slice(&((data_at - at * ELEMENT_BYTES) as u32).to_le_bytes());
            body.extend_from_slice(&(key.len() as u32).to_le_bytes());
            body.extend_from_slice(&page.to_le_bytes());
            data_at += key.len();
        }
        children
            .iter()
            .for_each(|(key, _)| body.extend_from_slice(key));
        self.page(BRANCH, children.len() as u16, &body)
    }

    /// Appends one page, with as many overflow pages as `body` needs.
    fn page(&mut self, flags: u16, count: u16, body: &[u8]) -> io::Result<u64> {
        let id = self.next_page;
        let pages = (PAGE_HEADER_BYTES + body.len()).div_ceil(PAGE_BYTES);
        self.out
            .write_all(&page_header(id, flags, count, (pages - 1) as u32))?;
        self.out.write_all(body)?;
        let padding = pages * PAGE_BYTES - PAGE_HEADER_BYTES - body.len();
        self.out.write_all(&[0; PAGE_BYTES][..padding])?;
        self.next_page += pages as u64;
        Ok(id)
    }
}

/// The entries of one leaf page before it is written; positions count from the start of `data`.
#[derive(Default)]
struct Leaf {
    count: u16,
    first_key: Vec<u8>,
    elements: Vec<u8>,
    data: Vec<u8>,
}

impl Leaf {
    fn has_room(&self, key: &[u8], value: &[u8]) -> bool {
        let used = PAGE_HEADER_BYTES + self.elements.len() + self.data.len();
        self.count == 0 || used + ELEMENT_BYTES + key.len() + value.len() <= PAGE_BYTES
    }

    fn push(&mut self, flags: u32, key: &[u8], value: &[u8]) {
        if self.count == 0 {
            self.first_key = key.to_vec();
        }
        for word in [
            flags,
            self.data.len() as u32,
            key.len() as u32,
            value.len() as u32,
        ] {
            self.elements.extend_from_slice(&word.to_le_bytes());
        }
        self.data.extend_from_slice(key);
        self.data.extend_from_slice(value);
        self.count += 1;
    }
}

/// How many of `children` one branch page takes: at least two, so that each level is smaller than the one below.
fn fitting(children: &[(Vec<u8>, u64)]) -> usize {
    let mut bytes = PAGE_HEADER_BYTES;
    let full = children.iter().position(|(key, _)| {
        bytes += ELEMENT_BYTES + key.len();
        bytes > PAGE_BYTES
    });
    full.unwrap_or(children.len()).max(2).min(children.len())
}

fn page_header(id: u64, flags: u16, count: u16, overflow: u32) -> [u8; PAGE_HEADER_BYTES] {
    let mut header = [0; PAGE_HEADER_BYTES];
    header[..8].copy_from_slice(&id.to_le_bytes());
    header[8..10].copy_from_slice(&flags.to_le_bytes());
    header[10..12].copy_from_slice(&count.to_le_bytes());
    header[12..].copy_from_slice(&overflow.to_le_bytes());
    header
}

fn bucket_header(root: u64) -> [u8; 16] {
    let mut header = [0; 16];
    header[..8].copy_from_slice(&root.to_le_bytes());
    header
}

fn meta_page(txid: u64, root: u64, pages: u64) -> Vec<u8> {
    let mut meta = Vec::with_capacity(PAGE_BYTES);
    for word in [MAGIC, VERSION, PAGE_BYTES as u32, 0] {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    meta.extend_from_slice(&bucket_header(root));
    for word in [FREELIST_PAGE, pages, txid] {
        meta.extend_from_slice(&word.to_le_bytes());
    }
    let checksum = fnv1a(&meta);
    meta.extend_from_slice(&checksum.to_le_bytes());
    let mut page = page_header(txid, META, 0, 0).to_vec();
    page.extend_from_slice(&meta);
    page.resize(PAGE_BYTES, 0);
    page
}

/// FNV-1a of 64 bits, which guards a meta.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn u32_le(bytes: &[u8]) -> u32 {
    u32::from_le_bytes(bytes.try_into().expect("four bytes were sliced"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// Walks the file from its meta as bbolt does and returns every (bucket, key, value).
    fn walk(file: &[u8]) -> Vec<(Vec<u8>, Vec<u8>, Vec<u8>)> {
        let meta = &file[PAGE_HEADER_BYTES..];
        assert_eq!(u32_le(&meta[..4]), MAGIC);
        assert_eq!(u64_le(&meta[56..64]), fnv1a(&meta[..56]));
        let mut buckets = Vec::new();
        collect(file, u64_le(&meta[16..24]), &mut |flags, name, header| {
            assert_eq!(flags, BUCKET_ELEMENT);
            buckets.push((name.to_vec(), u64_le(&header[..8])));
        });
        let mut all = Vec::new();
        for (name, root) in buckets {
            collect(file, root, &mut |_, key, value| {
                all.push((name.clone(), key.to_vec(), value.to_vec()))
            });
        }
        all
    }

    fn collect(file: &[u8], id: u64, each: &mut impl FnMut(u32, &[u8], &[u8])) {
        let page = &file[id as usize * PAGE_BYTES..];
        assert_eq!(u64_le(&page[..8]), id);
        let flags = u16::from_le_bytes([page[8], page[9]]);
        let count = u16::from_le_bytes([page[10], page[11]]) as usize;
        for at in 0..count {
            let element = &page[PAGE_HEADER_BYTES + at * ELEMENT_BYTES..];
            if flags == BRANCH {
                collect(file, u64_le(&element[8..16]), each);
            } else {
                let (pos, ksize, vsize) = (
                    u32_le(&element[4..8]) as usize,
                    u32_le(&element[8..12]) as usize,
                    u32_le(&element[12..16]) as usize,
                );
                each(
                    u32_le(element.get(..4).expect("four bytes")),
                    &element[pos..pos + ksize],
                    &element[pos + ksize..pos + ksize + vsize],
                );
            }
        }
    }

    fn u64_le(bytes: &[u8]) -> u64 {
        u64::from_le_bytes(bytes.try_into().expect("eight bytes"))
    }

    #[test]
    fn every_entry_is_found_by_walking_the_tree() {
        for count in [0u32, 1, 2, 100, 20_000] {
            let entries: Vec<_> = (0..count)
                .map(|n| (n.to_be_bytes().to_vec(), vec![7; (n % 90) as usize]))
                .collect();
            let big = (b"z".to_vec(), vec![9; 3 * PAGE_BYTES]);
            let mut out = Cursor::new(Vec::new());
            let mut writer = Writer::create(&mut out).expect("memory");
            writer
                .bucket("a", entries.iter().cloned().map(Ok))
                .expect("memory");
            writer
                .bucket("b", std::iter::once(Ok(big.clone())))
                .expect("memory");
            let length = writer.finish().expect("memory");
            let file = out.into_inner();
            assert_eq!(file.len() as u64, length);
            let expected: Vec<_> = entries
                .into_iter()
                .map(|(key, value)| (b"a".to_vec(), key, value))
                .chain(std::iter::once((b"b".to_vec(), big.0, big.1)))
                .collect();
            assert_eq!(walk(&file), expected, "{count} entries");
        }
    }
}
