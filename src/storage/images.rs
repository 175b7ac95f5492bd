//! Index snapshots in the log: the latest whole one, and one whose parts are still coming.
//!
//! Invariant: the whole one goes only when a newer one has all its parts. Places only, no contents.

use super::index::Place;
use super::record::IndexHead;
use crate::types::Slot;

/// Where the parts are.
#[derive(Clone, Debug, Default)]
pub(super) struct Images {
    whole: Option<Image>,
    open: Option<Image>,
}

#[derive(Clone, Debug)]
struct Image {
    slot: Slot,
    parts: u32,
    places: Vec<Place>,
}

impl Images {
    /// Takes in one part, in the order of writing; gives the places that nobody needs any more.
    pub(super) fn add(&mut self, head: &IndexHead, place: Place) -> Vec<Place> {
        let mut dropped = Vec::new();
        if head.part == 0 {
            dropped.extend(self.open.take().into_iter().flat_map(|image| image.places));
            self.open = Some(Image { slot: head.slot, parts: head.parts, places: Vec::new() });
        }
        let next = self.open.as_mut().filter(|image| {
            image.slot == head.slot
                && image.parts == head.parts
                && image.places.len() == head.part as usize
        });
        let Some(image) = next else {
            dropped.push(place);
            return dropped;
        };
        image.places.push(place);
        if image.places.len() == image.parts as usize {
            dropped.extend(self.whole.take().into_iter().flat_map(|image| image.places));
            self.whole = self.open.take();
        }
        dropped
    }

    /// The latest whole one, with its parts' places.
    pub(super) fn latest(&self) -> Option<(Slot, &[Place])> {
        self.whole.as_ref().map(|image| (image.slot, image.places.as_slice()))
    }

    /// Every place that is still needed.
    pub(super) fn places(&self) -> impl Iterator<Item = &Place> {
        self.whole.iter().chain(&self.open).flat_map(|image| &image.places)
    }
}
