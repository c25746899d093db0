//! One piece of memory cannot be two fields.

struct Heat {
    temperature: Vec<f64>,
}

impl piton::State for Heat {
    fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
        fields.array("temperature", &mut self.temperature);
        fields.slice("first", &mut self.temperature[..1]);
    }
}

fn main() {}
