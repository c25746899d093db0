//! A local variable is gone before it could be restored.

struct Heat {
    temperature: Vec<f64>,
}

impl piton::State for Heat {
    fn describe<'a>(&'a mut self, fields: &mut piton::Fields<'a>) {
        let mut mean = self.temperature.iter().sum::<f64>() / self.temperature.len() as f64;
        let mut copy = self.temperature.clone();
        fields.array("temperature", &mut self.temperature);
        fields.value("mean", &mut mean);
        fields.array("copy", &mut copy);
    }
}

fn main() {}
