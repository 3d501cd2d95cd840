//! An interval tree over the distinct ranges that are watched: which of them hold a key.
//!
//! Used by the registry alone. A treap ordered by (start, end); every node knows which node of its
//! subtree reaches furthest, so a lookup leaves out the subtrees that end before the key and costs
//! O(log n + hits). Equal ranges share one node: ten thousand watchers of a prefix are one node.

use bytes::Bytes;

const NIL: u32 = u32::MAX;

/// The tree. A node's number is stable until the node is removed.
pub(super) struct Intervals {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
    seed: u64,
}

struct Node {
    start: Bytes,
    end: Option<Bytes>,
    group: u32,
    priority: u32,
    left: u32,
    right: u32,
    furthest: u32,
}

impl Intervals {
    pub(super) fn new() -> Self {
        Intervals {
            nodes: Vec::new(),
            free: Vec::new(),
            root: NIL,
            seed: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// Adds a range that is not in the tree yet.
    pub(super) fn insert(&mut self, start: Bytes, end: Option<Bytes>, group: u32) {
        let priority = self.next_priority();
        let node = Node {
            start,
            end,
            group,
            priority,
            left: NIL,
            right: NIL,
            furthest: NIL,
        };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        self.refresh(at);
        self.root = self.insert_below(self.root, at);
    }

    /// Takes a range out again.
    pub(super) fn remove(&mut self, start: &Bytes, end: &Option<Bytes>) {
        self.root = self.remove_below(self.root, start, end);
    }

    /// Calls `found` with the group of every range that holds `key`.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(u32)) {
        self.stab_below(self.root, key, found);
    }

    fn stab_below(&self, mut at: u32, key: &[u8], found: &mut impl FnMut(u32)) {
        while at != NIL {
            let node = &self.nodes[at as usize];
            if !reaches(&self.nodes[node.furthest as usize].end, key) {
                return;
            }
            self.stab_below(node.left, key, found);
            if node.start.as_ref() > key {
                return;
            }
            if reaches(&node.end, key) {
                found(node.group);
            }
            at = node.right;
        }
    }

    fn insert_below(&mut self, at: u32, new: u32) -> u32 {
        if at == NIL {
            return new;
        }
        if self.nodes[new as usize].priority > self.nodes[at as usize].priority {
            let (left, right) = self.split(at, new);
            self.nodes[new as usize].left = left;
            self.nodes[new as usize].right = right;
            self.refresh(new);
            return new;
        }
        if self.is_before(new, at) {
            let left = self.insert_below(self.nodes[at as usize].left, new);
            self.nodes[at as usize].left = left;
        } else {
            let right = self.insert_below(self.nodes[at as usize].right, new);
            self.nodes[at as usize].right = right;
        }
        self.refresh(at);
        at
    }

    /// Cuts the subtree at `at` into what sorts before `new` and what sorts after it.
    fn split(&mut self, at: u32, new: u32) -> (u32, u32) {
        if at == NIL {
            return (NIL, NIL);
        }
        if self.is_before(new, at) {
            let (before, after) = self.split(self.nodes[at as usize].left, new);
            self.nodes[at as usize].left = after;
            self.refresh(at);
            (before, at)
        } else {
            let (before, after) = self.split(self.nodes[at as usize].right, new);
            self.nodes[at as usize].right = before;
            self.refresh(at);
            (at, after)
        }
    }

    fn remove_below(&mut self, at: u32, start: &Bytes, end: &Option<Bytes>) -> u32 {
        if at == NIL {
            return NIL;
        }
        let node = &self.nodes[at as usize];
        match order(start, end, &node.start, &node.end) {
            std::cmp::Ordering::Equal => {
                let joined = self.join(node.left, node.right);
                let node = &mut self.nodes[at as usize];
                node.start = Bytes::new();
                node.end = None;
                self.free.push(at);
                return joined;
            }
            std::cmp::Ordering::Less => {
                let left = self.remove_below(node.left, start, end);
                self.nodes[at as usize].left = left;
            }
            std::cmp::Ordering::Greater => {
                let right = self.remove_below(node.right, start, end);
                self.nodes[at as usize].right = right;
            }
        }
        self.refresh(at);
        at
    }

    /// Joins two subtrees of which every range of `left` sorts before every range of `right`.
    fn join(&mut self, left: u32, right: u32) -> u32 {
        if left == NIL || right == NIL {
            return if left == NIL { right } else { left };
        }
        if self.nodes[left as usize].priority > self.nodes[right as usize].priority {
            let joined = self.join(self.nodes[left as usize].right, right);
            self.nodes[left as usize].right = joined;
            self.refresh(left);
            left
        } else {
            let joined = self.join(left, self.nodes[right as usize].left);
            self.nodes[right as usize].left = joined;
            self.refresh(right);
            right
        }
    }

    fn refresh(&mut self, at: u32) {
        let Node { left, right, .. } = self.nodes[at as usize];
        let mut furthest = at;
        for child in [left, right] {
            if child != NIL {
                let candidate = self.nodes[child as usize].furthest;
                if ends_after(
                    &self.nodes[candidate as usize].end,
                    &self.nodes[furthest as usize].end,
                ) {
                    furthest = candidate;
                }
            }
        }
        self.nodes[at as usize].furthest = furthest;
    }

    fn is_before(&self, a: u32, b: u32) -> bool {
        let (a, b) = (&self.nodes[a as usize], &self.nodes[b as usize]);
        order(&a.start, &a.end, &b.start, &b.end).is_lt()
    }

    /// xorshift64: the shape of the tree must not depend on the order of the ranges.
    fn next_priority(&mut self) -> u32 {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        (self.seed >> 32) as u32
    }
}

fn reaches(end: &Option<Bytes>, key: &[u8]) -> bool {
    end.as_ref().is_none_or(|end| key < end.as_ref())
}

fn ends_after(a: &Option<Bytes>, b: &Option<Bytes>) -> bool {
    match (a, b) {
        (_, None) => false,
        (None, Some(_)) => true,
        (Some(a), Some(b)) => a > b,
    }
}

fn order(
    start: &Bytes,
    end: &Option<Bytes>,
    other_start: &Bytes,
    other_end: &Option<Bytes>,
) -> std::cmp::Ordering {
    let by_end = || match (end, other_end) {
        (None, None) => std::cmp::Ordering::Equal,
        (None, Some(_)) => std::cmp::Ordering::Greater,
        (Some(_), None) => std::cmp::Ordering::Less,
        (Some(end), Some(other)) => end.cmp(other),
    };
    start.cmp(other_start).then_with(by_end)
}
