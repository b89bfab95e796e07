//! The part of the ONNX format that we write: messages with the field numbers of `onnx.proto`
//! (<https://github.com/onnx/onnx/blob/main/onnx/onnx.proto>), and a graph that is built node by node.

use candle_core::{DType, Device, Tensor};
use prost::Message;

use crate::TrainError;

/// Element types of tensors.
pub(super) const FLOAT: i32 = 1;
pub(super) const INT64: i32 = 7;

#[derive(Clone, PartialEq, Message)]
pub(super) struct ModelProto {
    #[prost(int64, tag = "1")]
    pub(super) ir_version: i64,
    #[prost(string, tag = "2")]
    pub(super) producer_name: String,
    #[prost(string, tag = "3")]
    pub(super) producer_version: String,
    #[prost(message, optional, tag = "7")]
    pub(super) graph: Option<GraphProto>,
    #[prost(message, repeated, tag = "8")]
    pub(super) opset_import: Vec<OperatorSetIdProto>,
    #[prost(message, repeated, tag = "14")]
    pub(super) metadata_props: Vec<StringStringEntryProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OperatorSetIdProto {
    #[prost(string, tag = "1")]
    pub(super) domain: String,
    #[prost(int64, tag = "2")]
    pub(super) version: i64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct StringStringEntryProto {
    #[prost(string, tag = "1")]
    pub(super) key: String,
    #[prost(string, tag = "2")]
    pub(super) value: String,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct GraphProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) node: Vec<NodeProto>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) initializer: Vec<TensorProto>,
    #[prost(message, repeated, tag = "11")]
    pub(super) input: Vec<ValueInfoProto>,
    #[prost(message, repeated, tag = "12")]
    pub(super) output: Vec<ValueInfoProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NodeProto {
    #[prost(string, repeated, tag = "1")]
    pub(super) input: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub(super) output: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) name: String,
    #[prost(string, tag = "4")]
    pub(super) op_type: String,
    #[prost(message, repeated, tag = "5")]
    pub(super) attribute: Vec<AttributeProto>,
}

/// Its value must be there even when it is 0, so the fields say whether they are.
#[derive(Clone, PartialEq, Message)]
pub(super) struct AttributeProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(float, optional, tag = "2")]
    pub(super) f: Option<f32>,
    #[prost(int64, optional, tag = "3")]
    pub(super) i: Option<i64>,
    // One number after the other: the format is older than packed lists.
    #[prost(int64, repeated, packed = "false", tag = "8")]
    pub(super) ints: Vec<i64>,
    #[prost(int32, tag = "20")]
    pub(super) r#type: i32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorProto {
    #[prost(int64, repeated, packed = "false", tag = "1")]
    pub(super) dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub(super) data_type: i32,
    #[prost(string, tag = "8")]
    pub(super) name: String,
    #[prost(bytes = "vec", tag = "9")]
    pub(super) raw_data: Vec<u8>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ValueInfoProto {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(message, optional, tag = "2")]
    pub(super) r#type: Option<TypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeProto {
    #[prost(message, optional, tag = "1")]
    pub(super) tensor_type: Option<TensorTypeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorTypeProto {
    #[prost(int32, tag = "1")]
    pub(super) elem_type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) shape: Option<TensorShapeProto>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TensorShapeProto {
    #[prost(message, repeated, tag = "1")]
    pub(super) dim: Vec<Dimension>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Dimension {
    #[prost(int64, optional, tag = "1")]
    pub(super) dim_value: Option<i64>,
    #[prost(string, optional, tag = "2")]
    pub(super) dim_param: Option<String>,
}

/// A length that is known, or the name of one that is not.
pub(super) enum Length {
    Known(usize),
    Named(&'static str),
}

/// Name, element type and shape of an input or output.
pub(super) fn value(name: &str, elem_type: i32, shape: &[Length]) -> ValueInfoProto {
    let dim = shape.iter().map(|length| match length {
        Length::Known(length) => Dimension { dim_value: Some(*length as i64), dim_param: None },
        Length::Named(name) => Dimension { dim_value: None, dim_param: Some((*name).to_owned()) },
    });
    let shape = TensorShapeProto { dim: dim.collect() };
    let tensor_type = TensorTypeProto { elem_type, shape: Some(shape) };
    ValueInfoProto { name: name.to_owned(), r#type: Some(TypeProto { tensor_type: Some(tensor_type) }) }
}

/// An attribute that is a number.
pub(super) fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { name: name.to_owned(), i: Some(value), r#type: 2, ..AttributeProto::default() }
}

/// An attribute that is a fraction.
pub(super) fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { name: name.to_owned(), f: Some(value), r#type: 1, ..AttributeProto::default() }
}

/// An attribute that is a list of numbers.
pub(super) fn ints(name: &str, values: &[i64]) -> AttributeProto {
    AttributeProto { name: name.to_owned(), ints: values.to_vec(), r#type: 7, ..AttributeProto::default() }
}

/// A graph in the making. Values are known by name; each node's value has the node's name.
#[derive(Default)]
pub(super) struct Graph {
    pub(super) nodes: Vec<NodeProto>,
    pub(super) initializers: Vec<TensorProto>,
}

impl Graph {
    /// Adds a node and gives the name of its value.
    pub(super) fn node(
        &mut self,
        name: &str,
        operator: &str,
        inputs: &[&str],
        attributes: Vec<AttributeProto>,
    ) -> String {
        self.nodes.push(NodeProto {
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![name.to_owned()],
            name: name.to_owned(),
            op_type: operator.to_owned(),
            attribute: attributes,
        });
        name.to_owned()
    }

    /// Adds a weight of 32-bit floats, as it is.
    pub(super) fn weight(&mut self, name: &str, tensor: &Tensor) -> Result<String, TrainError> {
        let values = tensor.to_device(&Device::Cpu)?.to_dtype(DType::F32)?.flatten_all()?.to_vec1::<f32>()?;
        self.initializers.push(TensorProto {
            dims: tensor.dims().iter().map(|&length| length as i64).collect(),
            data_type: FLOAT,
            name: name.to_owned(),
            raw_data: values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        });
        Ok(name.to_owned())
    }

    /// A constant fraction without dimensions, made once.
    pub(super) fn scalar(&mut self, name: &str, value: f32) -> String {
        self.constant(name, Vec::new(), FLOAT, value.to_le_bytes().to_vec())
    }

    /// A constant number without dimensions, made once.
    pub(super) fn number(&mut self, name: &str, value: i64) -> String {
        self.constant(name, Vec::new(), INT64, value.to_le_bytes().to_vec())
    }

    /// A constant list of numbers, made once.
    pub(super) fn numbers(&mut self, name: &str, values: &[i64]) -> String {
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.constant(name, vec![values.len() as i64], INT64, bytes)
    }

    fn constant(&mut self, name: &str, dims: Vec<i64>, data_type: i32, raw_data: Vec<u8>) -> String {
        if !self.initializers.iter().any(|tensor| tensor.name == name) {
            self.initializers.push(TensorProto { dims, data_type, name: name.to_owned(), raw_data });
        }
        name.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(message: &impl Message) -> String {
        message.encode_to_vec().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes are those of onnx 1.23.2:
    ///
    /// ```python
    /// import numpy
    /// from onnx import TensorProto, helper, numpy_helper
    /// weight = numpy_helper.from_array(numpy.array([1.0, -2.0], "float32"), "w")
    /// x = helper.make_tensor_value_info("x", TensorProto.INT64, ["batch", 3])
    /// y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", 3])
    /// node = helper.make_node("Gather", ["w", "x"], ["y"], name="y", axis=0)
    /// for message in [
    ///     helper.make_attribute("perm", [0, 2]), helper.make_attribute("epsilon", 0.5),
    ///     helper.make_graph([node], "g", [x], [y], [weight]),
    /// ]:
    ///     print(message.SerializeToString().hex())
    /// ```
    #[test]
    fn messages_are_those_of_onnx() {
        assert_eq!(hex(&ints("perm", &[0, 2])), "0a047065726d40004002a00107");
        assert_eq!(hex(&float("epsilon", 0.5)), "0a07657073696c6f6e150000003fa00101");
        let mut graph = Graph::default();
        let weight = Tensor::new(&[1f32, -2.0], &Device::Cpu).expect("a tensor");
        graph.weight("w", &weight).expect("numbers");
        graph.node("y", "Gather", &["w", "x"], vec![int("axis", 0)]);
        let shape = [Length::Named("batch"), Length::Known(3)];
        let proto = GraphProto {
            node: graph.nodes,
            name: "g".to_owned(),
            initializer: graph.initializers,
            input: vec![value("x", INT64, &shape)],
            output: vec![value("y", FLOAT, &shape)],
        };
        assert_eq!(
            hex(&proto),
            "0a210a01770a01781201791a017922064761746865722a0b0a04617869731800a001021201672a11080210014201774a080000803f\
             000000c05a180a017812130a110807120d0a07120562617463680a02080362180a017912130a110801120d0a071205626174636\
             80a020803"
        );
    }
}
