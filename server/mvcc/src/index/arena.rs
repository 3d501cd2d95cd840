//! Where the nodes of one kind live, by number.

/// The place of a node in its arena. The height tells which arena.
pub(super) type NodeId = u32;

/// Nodes by number; the places of freed ones are used again.
pub(super) struct Arena<T> {
    nodes: Vec<T>,
    free: Vec<NodeId>,
}

impl<T: Default> Arena<T> {
    pub fn new() -> Self {
        Self::of(Vec::new())
    }

    pub fn of(nodes: Vec<T>) -> Self {
        Self {
            nodes,
            free: Vec::new(),
        }
    }

    pub fn add(&mut self, node: T) -> NodeId {
        if let Some(id) = self.free.pop() {
            self.nodes[id as usize] = node;
            return id;
        }
        self.nodes.push(node);
        (self.nodes.len() - 1) as NodeId
    }

    pub fn release(&mut self, id: NodeId) -> T {
        self.free.push(id);
        std::mem::take(&mut self.nodes[id as usize])
    }

    pub fn get(&self, id: NodeId) -> &T {
        &self.nodes[id as usize]
    }

    pub fn get_mut(&mut self, id: NodeId) -> &mut T {
        &mut self.nodes[id as usize]
    }

    pub fn heap_bytes(&self, of_node: fn(&T) -> usize) -> usize {
        self.nodes.capacity() * size_of::<T>()
            + self.free.capacity() * size_of::<NodeId>()
            + self.nodes.iter().map(of_node).sum::<usize>()
    }
}
