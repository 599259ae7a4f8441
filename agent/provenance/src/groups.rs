//! Things by the number of what they belong to, without a list for each. It does not know what they are.

/// See [`Groups::new`].
#[derive(Clone, Debug)]
pub struct Groups {
    starts: Vec<u32>,
    items: Vec<u32>,
}

impl Groups {
    /// `of` gives, thing by thing, the number of the group that it belongs to, below `count`; none where it belongs to none.
    pub fn new(count: usize, of: impl Iterator<Item = Option<u32>> + Clone) -> Self {
        let mut starts = vec![0_u32; count + 1];
        for group in of.clone().flatten() {
            starts[group as usize + 1] += 1;
        }
        for i in 0..count {
            starts[i + 1] += starts[i];
        }
        let mut next = starts.clone();
        let mut items = vec![0; starts[count] as usize];
        for (item, group) in of.enumerate().filter_map(|(i, g)| Some((i as u32, g?))) {
            items[next[group as usize] as usize] = item;
            next[group as usize] += 1;
        }
        Self { starts, items }
    }

    /// The things of a group, in their order.
    pub fn of(&self, group: usize) -> impl Iterator<Item = usize> + '_ {
        let range = self.starts[group] as usize..self.starts[group + 1] as usize;
        self.items[range].iter().map(|i| *i as usize)
    }
}
