//! Where the nodes of one kind live, by number.
//!
//! Nodes lie in chunks, so that a growing index never copies all of them at once.

const CHUNK_NODES: usize = 256;

/// The place of a node in its arena. The height tells which arena.
pub(super) type NodeId = u32;

/// Nodes by number; the places of freed ones are used again.
pub(super) struct Arena<T> {
    /// All but the last have `CHUNK_NODES` nodes.
    chunks: Vec<Vec<T>>,
    free: Vec<NodeId>,
}

impl<T: Default> Arena<T> {
    pub fn new() -> Self {
        Self {
            chunks: vec![Vec::new()],
            free: Vec::new(),
        }
    }

    pub fn add(&mut self, node: T) -> NodeId {
        if let Some(id) = self.free.pop() {
            *self.get_mut(id) = node;
            return id;
        }
        let mut last = self.chunks.len() - 1;
        if self.chunks[last].len() == CHUNK_NODES {
            self.chunks.push(Vec::with_capacity(CHUNK_NODES));
            last += 1;
        }
        self.chunks[last].push(node);
        (last * CHUNK_NODES + self.chunks[last].len() - 1) as NodeId
    }

    pub fn release(&mut self, id: NodeId) -> T {
        self.free.push(id);
        std::mem::take(self.get_mut(id))
    }

    pub fn get(&self, id: NodeId) -> &T {
        &self.chunks[id as usize / CHUNK_NODES][id as usize % CHUNK_NODES]
    }

    pub fn get_mut(&mut self, id: NodeId) -> &mut T {
        &mut self.chunks[id as usize / CHUNK_NODES][id as usize % CHUNK_NODES]
    }

    pub fn heap_bytes(&self, of_node: fn(&T) -> usize) -> usize {
        let nodes: usize = self.chunks.iter().map(Vec::capacity).sum();
        self.chunks.capacity() * size_of::<Vec<T>>()
            + nodes * size_of::<T>()
            + self.free.capacity() * size_of::<NodeId>()
            + self.chunks.iter().flatten().map(of_node).sum::<usize>()
    }
}
